/* SPDX-License-Identifier: BSD-3-Clause */

#include "text/reason.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void reason_make_one_line(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

int reason_set(struct reason *reason, int error, const char *format, ...)
{
    va_list arguments;
    if (!format) /* format is never NULL, but gcc with a sanitizer warns that it may be */
        format = "";
    va_start(arguments, format);
    int length = vsnprintf(reason->text, sizeof reason->text, format, arguments);
    va_end(arguments);
    size_t format_length = strlen(format);
    if (length >= 0 && (size_t)length < sizeof reason->text && format_length >= 2 &&
        strcmp(format + format_length - 2, ": ") == 0)
        snprintf(reason->text + length, sizeof reason->text - (size_t)length, "%s",
                 strerror(-error));
    reason_make_one_line(reason->text);
    return error;
}
