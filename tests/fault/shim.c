/* SPDX-License-Identifier: BSD-3-Clause */

/* shim - makes system and library calls of a program fail
 *
 * It is preloaded (LD_PRELOAD), and so is between a program and the C library.  It counts the
 * calls of some families, and makes some of them fail:
 *
 *     call    1  2  3  4  5  6  7  8  9
 *                      X                     first 4, times 1
 *                      X  X  X               first 4, times 3
 *                      X     X     X         first 4, times many, every 2
 *
 * Environment:
 *
 *     FAULT_PAGE   a file of a struct control, shared with the test that started the program: the
 *                  test sets which calls fail, also while the program runs, and reads the counts
 *     FAULT_CALLS  families, or names of functions, separated by commas: "heap,pages", "accept4"
 *     FAULT_HOW    an errno; 0: the usual one of the call; "short": one byte less than was asked
 *                  for is read or written; "one": only one byte
 *
 * Counting begins with the program's own code, because libraries may fail before that.  Calls by
 * libraries that do not survive a failure (`excused`) do not count either.  Counting goes on in
 * children, which share the page, but not in programs that these start.
 */

#include "shim.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct control *shim_control;
static const char *wanted; /* FAULT_CALLS */
enum shim_kind shim_kind;
int shim_number;

/* Without memory GMP (for nettle) and liburcu abort, libtasn1 uses a NULL pointer, and GnuTLS 3.7
 * frees parts of a handshake twice, or leaks them.  The sanitizer's calls are not the
 * program's. */
static const char *const excused[] = {"libasan",    "libgmp",   "libgnutls",
                                      "libhogweed", "libtasn1", "liburcu"};

static __attribute__((constructor)) void begin(void)
{
    const char *path = getenv("FAULT_PAGE"), *how = getenv("FAULT_HOW");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page =
        fd < 0 ? MAP_FAILED
               : mmap(NULL, sizeof *shim_control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        abort();
    close(fd);
    shim_kind = how && !strcmp(how, "short") ? SHORT
                : how && !strcmp(how, "one") ? ONE_BYTE
                                             : FAIL;
    shim_number = how && shim_kind == FAIL ? atoi(how) : 0;
    wanted = getenv("FAULT_CALLS");
    unsetenv("LD_PRELOAD");
    shim_control = page;
}

static bool is_wanted(const char *name)
{
    size_t length = strlen(name);
    for (const char *at = wanted; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

bool shim_excuses(const Dl_info *caller)
{
    const char *slash = caller->dli_fname ? strrchr(caller->dli_fname, '/') : NULL;
    for (size_t i = 0; slash && i < sizeof excused / sizeof excused[0]; i++)
        if (strncmp(slash + 1, excused[i], strlen(excused[i])) == 0)
            return true;
    return false;
}

/* Does not use stdio, because the call may be malloc. */
static void note(const char *name, const Dl_info *info, const void *caller)
{
    static const char digits[] = "0123456789abcdef";
    const char *slash = info->dli_fname ? strrchr(info->dli_fname, '/') : NULL;
    uintptr_t offset = (uintptr_t)caller - (uintptr_t)info->dli_fbase;
    char *at = shim_control->last, *end = at + sizeof shim_control->last - 1;
    for (; *name && at < end; name++)
        *at++ = *name;
    for (const char *from = slash ? slash : "/?"; *from && end - at > 12; from++)
        *at++ = (char)(*from == '/' ? ' ' : *from);
    if (end - at > 12) {
        *at++ = '+';
        for (int shift = 28; shift >= 0; shift -= 4)
            *at++ = digits[offset >> shift & 15];
    }
    *at = '\0';
}

/* This thread is in the C library, called by one of them. */
__thread bool shim_is_busy_for_excused __attribute__((tls_model("initial-exec")));

/* Count a call of this function, which is of this family.  True: it has to fail. */
bool shim_hits(const char *family, const char *name, const void *caller)
{
    Dl_info info = {.dli_fname = NULL};
    if (!shim_control || (!is_wanted(family) && !is_wanted(name)))
        return false;
    if (shim_is_busy_for_excused || (dladdr(caller, &info) != 0 && shim_excuses(&info)))
        return false;
    uint64_t at = 1 + atomic_fetch_add_explicit(&shim_control->calls, 1, memory_order_relaxed);
    uint64_t first = atomic_load_explicit(&shim_control->first, memory_order_relaxed);
    uint64_t times = atomic_load_explicit(&shim_control->times, memory_order_relaxed);
    uint64_t every = atomic_load_explicit(&shim_control->every, memory_order_relaxed);
    if (first == 0 || at < first || every == 0 || (at - first) % every != 0 ||
        (at - first) / every >= times)
        return false;
    note(name, &info, caller);
    atomic_fetch_add_explicit(&shim_control->failed, 1, memory_order_relaxed);
    return true;
}

int shim_fails_with(int usual)
{
    errno = shim_number ? shim_number : usual;
    return errno;
}
