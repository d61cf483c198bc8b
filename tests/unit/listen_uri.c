/* SPDX-License-Identifier: BSD-3-Clause */

/* The URI that says where the server listens. */

#include "support/listening.h"
#include "support/support.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "server/net/socket_kind.h"

/* The name of an export is free text, in which nothing may have a meaning in the URI. */
static void export_name_is_encoded(void **state)
{
    const struct folder *folder = *state;
    static const struct {
        const char *name, *encoded;
    } cases[] = {
        {NULL, ""},
        {"", ""},
        {"disk", "disk"},
        {"/disk", "/disk"},
        {"a/b/../c", "a/b/../c"},
        {"hello world", "hello%20world"},
        {"100%", "100%25"},
        {"?socket=/etc", "%3Fsocket%3D/etc"},
        {"a#b&c;d+e:f@g", "a%23b%26c%3Bd%2Be%3Af%40g"},
        {"'\"`$(x)\\", "%27%22%60%24%28x%29%5C"},
        {"\xc3\xa9\xff\x01\n", "%C3%A9%FF%01%0A"},
        {"-._~09AZaz", "-._~09AZaz"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct listen_options options = unix_options("s");
        struct listeners listeners;
        char expected[256];
        options.export_name = cases[i].name;
        assert_opens(&options, &listeners);
        snprintf(expected, sizeof expected, "nbd+unix:///%s?socket=%s/s", cases[i].encoded,
                 folder->path);
        assert_string_equal(listeners.uris[0], expected);
        listen_close(&listeners);

        options.kind = &socket_tcp;
        options.port = "0";
        snprintf(expected, sizeof expected, "/%s", cases[i].encoded);
        assert_opens(&options, &listeners);
        const char *slash = strchr(listeners.uris[0] + strlen("nbd://"), '/');
        assert_non_null(slash);
        assert_string_equal(slash, expected);
        listen_close(&listeners);
    }
}

static void path_is_encoded(void **state)
{
    const struct folder *folder = *state;
    assert_int_equal(mkdir("folder", 0700), 0);
    struct listen_options options = unix_options("folder/a b&c#?%");
    struct listeners listeners;
    char expected[256];
    assert_opens(&options, &listeners);
    snprintf(expected, sizeof expected, "nbd+unix:///?socket=%s/folder/a%%20b%%26c%%23%%3F%%25",
             folder->path);
    assert_string_equal(listeners.uris[0], expected);
    listen_close(&listeners);
}

static void scheme_says_that_tls_is_required(void **state)
{
    (void)state;
    struct listen_options options = tcp_options();
    options.is_tls_required = false;
    assert_uri_with_port(&options, "nbd://localhost");
    options.is_tls_required = true;
    assert_uri_with_port(&options, "nbds://localhost");

    struct listeners listeners;
    options = unix_options("s");
    options.is_tls_required = true;
    assert_opens(&options, &listeners);
    assert_int_equal(strncmp(listeners.uris[0], "nbds+unix:///?socket=/", 22), 0);
    listen_close(&listeners);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_FOLDER(export_name_is_encoded),
        TEST_IN_FOLDER(path_is_encoded),
        TEST_IN_FOLDER(scheme_says_that_tls_is_required),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
