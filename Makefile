# SPDX-License-Identifier: BSD-3-Clause
# The front door: a name for each thing that people do here.  Meson does the building.

PREFIX = /usr/local
DESTDIR =
SIZE = 1G
ARGS =
SECONDS = 60

build:
	scripts/setup build
	[ -f build/build.ninja ] || scripts/configure build
	ninja -C build

run:
	@scripts/run $(SIZE) $(ARGS)

check: check-plain

check-%:
	@scripts/check $*

fuzz:
	@scripts/fuzz $(SECONDS)

bench:
	scripts/setup build bench
	scripts/configure build
	ninja -C build nbdram nbdkit-memory-plugin.so bench-programs
	bench/run
	bench/server

install: build
	scripts/configure build --prefix=$(PREFIX)
	DESTDIR=$(DESTDIR) meson install -C build

clean:
	rm -rf build build-*

.PHONY: build run check fuzz bench install clean
