/* SPDX-License-Identifier: BSD-3-Clause */

#include "text/reason.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int why_say(int err, char *why, size_t why_size, const char *format, ...)
{
    if (why_size == 0 || !format)
        return err;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(why, why_size, format, arguments);
    va_end(arguments);
    size_t format_length = strlen(format);
    if (length >= 0 && (size_t)length < why_size && format_length >= 2 &&
        strcmp(format + format_length - 2, ": ") == 0)
        snprintf(why + length, why_size - (size_t)length, "%s", strerror(-err));
    return err;
}
