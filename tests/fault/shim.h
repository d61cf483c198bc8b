/* SPDX-License-Identifier: BSD-3-Clause */

/* What the parts of the shim share: see shim.c. */

#ifndef NBDRAM_TESTS_FAULT_SHIM_H
#define NBDRAM_TESTS_FAULT_SHIM_H

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* All orders are relaxed: nothing but the counters themselves is told by them. */
struct control {
    _Atomic uint64_t first; /* the first call that fails; 0: none */
    _Atomic uint64_t times; /* how many do */
    _Atomic uint64_t every; /* of how many calls from there on one does */
    _Atomic uint64_t calls; /* that there were */
    _Atomic uint64_t failed;
    char last[104]; /* the last one that did, and who called it */
};

enum shim_kind { FAIL, SHORT, ONE_BYTE };

extern struct control *shim_control; /* NULL before the program's own code runs */
extern enum shim_kind shim_kind;
extern int shim_number; /* an errno, or 0 */
extern __thread bool shim_is_busy_for_excused __attribute__((tls_model("initial-exec")));

bool shim_excuses(const Dl_info *caller);

/* A call of this function, of this family, was made: whether it is one that fails. */
bool shim_hits(const char *family, const char *name, const void *caller);

/* Set errno to what was asked for, or to the usual; and say which. */
int shim_fails_with(int usual);

#define CALLER __builtin_return_address(0)

/* The C library's function; but another library that was preloaded may have its own before. */
#define REAL(function)                                                                           \
    static __typeof__(&function) real;                                                           \
    if (!real)                                                                                   \
    real = (__typeof__(&function))(uintptr_t)dlsym(RTLD_NEXT, #function)

/* A function that fails by answering `failure` and setting errno. */
#define WRAP(family, type, function, parameters, arguments, failure, usual)                      \
    type function parameters                                                                     \
    {                                                                                            \
        REAL(function);                                                                          \
        if (shim_hits(family, #function, CALLER)) {                                              \
            shim_fails_with(usual);                                                              \
            return failure;                                                                      \
        }                                                                                        \
        return real arguments;                                                                   \
    }

/* One that does its work and says it has not. */
#define WRAP_AFTER(family, type, function, parameters, arguments, failure, usual)                \
    type function parameters                                                                     \
    {                                                                                            \
        REAL(function);                                                                          \
        bool hit = shim_hits(family, #function, CALLER);                                         \
        type answer = real arguments;                                                            \
        if (!hit)                                                                                \
            return answer;                                                                       \
        shim_fails_with(usual);                                                                  \
        return failure;                                                                          \
    }

#endif
