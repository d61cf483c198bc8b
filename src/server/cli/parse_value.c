/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/cli/parse_value.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "text/parse.h"

int parse_tls_mode(const char *text, enum tls_mode *mode)
{
    static const char *const require[] = {"require", "required", "force"};
    bool is_on;
    for (size_t i = 0; i < sizeof require / sizeof require[0]; i++) {
        if (strcasecmp(text, require[i]) == 0) {
            *mode = TLS_REQUIRE;
            return 0;
        }
    }
    if (parse_bool(text, &is_on) < 0)
        return -EINVAL;
    *mode = is_on ? TLS_ON : TLS_OFF;
    return 0;
}

int parse_log_target(const char *text, enum log_target *target)
{
    static const struct {
        const char *name;
        enum log_target target;
    } targets[] = {
        {"default", LOG_TO_DEFAULT},
        {"stderr", LOG_TO_STDERR},
        {"syslog", LOG_TO_SYSLOG},
        {"null", LOG_TO_NULL},
    };
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        if (strcmp(text, targets[i].name) == 0) {
            *target = targets[i].target;
            return 0;
        }
    }
    return -EINVAL;
}
