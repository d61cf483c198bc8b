#!/bin/busybox sh
# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# on_disk - /sbin/init of the system on the disk: store a file there, or check that of last time

# shellcheck source=tests/vm/guest/lib.sh
. /guest/lib.sh
mount -o remount,rw /
grep "^$ROOT / ext4 rw" /proc/mounts
if [ -f /kept ]; then
    sha256sum -c /sum
    meet found
else
    noise 16 | tee /kept | sha256sum | sed 's|-$|/kept|' >/sum
    meet new
fi
sync
mount -o remount,ro /
