/* SPDX-License-Identifier: BSD-3-Clause */

#include "text/percent.h"

#include <string.h>

void percent_encode(FILE *out, const char *text, size_t length)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-._~/";
    for (size_t i = 0; i < length; i++)
        if (text[i] != '\0' && strchr(plain, text[i]))
            fputc(text[i], out);
        else
            fprintf(out, "%%%02X", (unsigned)(unsigned char)text[i]);
}
