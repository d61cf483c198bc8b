# SPDX-License-Identifier: BSD-3-Clause
# The front door: a name for each thing that people do here.  Meson does the building.

PREFIX = /usr/local
DESTDIR =
SIZE = 1G
ARGS =
SECONDS = 60

build: # build nbdram and the plugin in build/; installs no packages
	@{ [ -f build/build.ninja ] || scripts/configure build; } && ninja -C build || \
	    { scripts/setup --missing build; exit 1; }

setup: # install the packages that build, run and check need (Debian, Ubuntu)
	@scripts/setup build run check

run: # setup, build, and serve a disk until Ctrl-C: make run SIZE=1G ARGS='allocator=zstd'
	@scripts/run $(SIZE) $(ARGS)

check: check-plain # setup, build, and run every test

check-%: # the same in another way: asan tsan i386 s390x coverage; or only: lint vm
	@scripts/check $*

fuzz: # fuzz each parser: make fuzz SECONDS=60
	@scripts/fuzz $(SECONDS)

bench: # measure against stock nbdkit; see bench/README.md
	scripts/setup build bench
	scripts/configure build
	ninja -C build nbdram nbdkit-memory-plugin.so bench-programs
	bench/run
	bench/server

install: build # install into PREFIX=/usr/local, or with PREFIX=/usr over nbdkit's own plugin
	scripts/configure build --prefix=$(PREFIX)
	DESTDIR=$(DESTDIR) meson install -C build

clean: # remove everything that was built
	rm -rf build build-*

help: # list these targets
	@sed -n 's/^\([a-z%-]*\):.*# /\1\t/p' Makefile | expand -t 10

.PHONY: build setup run check fuzz bench install clean help
