/* SPDX-License-Identifier: BSD-3-Clause */

/* Shared by the parts of the shim: see shim.c. */

#ifndef NBDRAM_TESTS_FAULT_SHIM_H
#define NBDRAM_TESTS_FAULT_SHIM_H

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* All orders are relaxed: no other data depends on the counters. */
struct control {
    _Atomic uint64_t first; /* number of the first call that fails; 0: none */
    _Atomic uint64_t times; /* how many calls fail */
    _Atomic uint64_t every; /* from the first one, one call of this many fails */
    _Atomic uint64_t calls; /* how many there were */
    _Atomic uint64_t failed;
    char last[104]; /* the last call that failed, and its caller */
};

enum shim_kind { FAIL, SHORT, ONE_BYTE };

extern struct control *shim_control; /* NULL before the program's own code runs */
extern enum shim_kind shim_kind;
extern int shim_number; /* an errno, or 0 */
extern __thread bool shim_is_busy_for_excused __attribute__((tls_model("initial-exec")));

bool shim_excuses(const Dl_info *caller);

/* Count a call of this function, which is of this family.  True: it has to fail. */
bool shim_hits(const char *family, const char *name, const void *caller);

/* Set errno to FAULT_HOW, or to the usual one if that is 0.  Returns it. */
int shim_fails_with(int usual);

#define CALLER __builtin_return_address(0)

/* The C library's function, or that of a library that was preloaded after this one. */
#define REAL(function)                                                                           \
    static __typeof__(&function) real;                                                           \
    if (!real)                                                                                   \
    real = (__typeof__(&function))(uintptr_t)dlsym(RTLD_NEXT, #function)

/* A function that fails by returning `failure` and setting errno. */
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

/* A function that does its work, and returns a failure. */
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
