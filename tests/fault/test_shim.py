# SPDX-License-Identifier: BSD-3-Clause
"""The shim intercepts every call of nbdram that the system can refuse."""

import re

import pytest

from harness import PRELOAD, SERVER, need, run
from victim import SHIM

# Calls that the shim lets through, and why.
LET_THROUGH = {
    "fail with wrong arguments only, or not at all": r"""
        __(assert_fail|ctype_\w+|errno_location|sched_cpucount|xpg_basename)  clock_gettime
        dirname  feof  ferror  fstatfs(64)?  gai_strerror  get(e?[ug]id|p?pid|env|opt_long)  isoc99_sscanf  mallopt  malloc_usable_size
        mem\w+  opt(arg|ind|opt)  pthread_(attr|cond|condattr|mutex)_\w+  pthread_(join|setattr_default_np|sigmask)
        prctl  qsort  raise  sched_(get_priority_min|getcpu|setscheduler|yield)  setvbuf  sig(add|empty|fill)set  signal  sigprocmask  sigtimedwait
        snprintf  stderr  stdout  str(?!dup)\w+  strto\w+  syscall  sysconf  uname  vsnprintf  waitpid  kill
        __isoc99_sscanf  readdir(64)?  readlink  umask
    """,
    "fail by what they call in the C library: malloc": r"""
        asprintf  fopencookie  getaddrinfo  freeaddrinfo  getgrnam  getnameinfo  getpw(nam|uid)  strdup
        __getdelim  __isoc99_fscanf  fgets
    """,
    "print, and are not checked, or fflush reports the error": r"fprintf  fputc  fputs  fwrite  printf  putc  puts  openlog  syslog",
    "free something, or do not return": r"close  closedir  free  malloc_trim  munlock  munmap  unsetenv  _exit  execl",
    "start and end of a program": r"__cxa_finalize  __gmon_start__  __libc_start_main  __stack_chk_fail  _ITM_\w+",
    "belong to libraries, which shim.c lets through": r"gnutls_\w+  ZSTD_\w+  urcu_\w+",
}


def names(*flags, file):
    """The names of a file's dynamic symbols, without versions."""
    lines = run("nm", "-D", *flags, file).stdout.splitlines()
    return {line.split()[-1].split("@")[0] for line in lines}


@pytest.mark.skipif(bool(PRELOAD), reason="sanitizers make calls of their own")
def test_knows_all_calls():
    need("nm")
    known = names("--defined-only", file=SHIM)
    patterns = " ".join(LET_THROUGH.values()).split()
    unknown = {
        name
        for name in names("--undefined-only", file=SERVER) - known
        if not any(re.fullmatch(rf"({pattern})|__({pattern})_chk", name) for pattern in patterns)
    }
    assert not unknown, "add them to shim_calls.c, or to LET_THROUGH with a reason"
