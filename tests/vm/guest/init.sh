#!/bin/busybox sh
# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# init - the first process of a guest: set up a small system, and do $JOB
#
# The kernel passes on the words of its command line that it does not know: JOB, and variables of
# that job.

/bin/busybox --install -s /bin
# busybox's shell prefers its own programs to those in PATH, so others are called by their paths.
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
ifconfig eth0 10.0.2.15 # the address of the guest in qemu's network
# shellcheck disable=SC1090 # a script in this folder
. "/guest/$JOB.sh"
