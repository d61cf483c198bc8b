#!/bin/busybox sh
# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# init - the first process of a guest: makes a small system, and does $JOB
#
# The kernel hands over what it does not know of its command line: JOB, and what that job reads.

/bin/busybox --install -s /bin
# busybox's shell takes its own programs before any in PATH: others are called by their paths.
export PATH=/bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /tmp
# shellcheck source=tests/vm/guest/lib.sh
. /guest/lib.sh
while read -r driver; do
    insmod "/drivers/$driver"
done </drivers/order
ifconfig lo 127.0.0.1
ifconfig eth0 10.0.2.15 # what qemu's network expects of its only guest
# shellcheck disable=SC1090 # one of its neighbours
. "/guest/$JOB.sh"
