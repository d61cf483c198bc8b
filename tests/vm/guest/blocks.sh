# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# blocks - use the block device without the page cache: parallel writers, discard, zeroes

MIB_EACH=4

# compare - check that the disk begins with the content of /tmp/model
compare() {
    dd if="$DISK" bs=1M count=$((4 * MIB_EACH)) iflag=direct status=none |
        /usr/bin/cmp - /tmp/model
}

# both OFFSET COUNT COMMAND... - clear a range of the disk with COMMAND, and of the model; in KiB
both() {
    offset=$1 count=$2
    shift 2
    "$@" -o $((offset * 1024)) -l $((count * 1024)) "$DISK"
    dd if=/dev/zero of=/tmp/model bs=1k seek="$offset" count="$count" conv=notrunc status=none
    compare
}

write_part() {
    dd if=/tmp/model of="$DISK" bs=64k skip=$(($1 * MIB_EACH * 16)) seek=$(($1 * MIB_EACH * 16)) \
        count=$((MIB_EACH * 16)) oflag=direct conv=notrunc status=none
}

write_all() {
    pids=
    for part in 0 1 2 3; do
        write_part $part &
        pids="$pids $!"
    done
    # shellcheck disable=SC2086 # words
    wait_all $pids
    compare
}

attach -b "$BLOCK"
[ "$(blockdev --getsize64 "$DISK")" = "$SIZE" ]
[ "$(blockdev --getss "$DISK")" = "$BLOCK" ]
[ "$(blockdev --getro "$DISK")" = 0 ]
[ "$(connections)" = 2 ]
noise $((4 * MIB_EACH)) >/tmp/model
write_all
meet written
both 2048 4096 /usr/bin/blkdiscard
both 8196 4092 /usr/bin/blkdiscard -z
both 15360 4 /usr/bin/blkdiscard
meet discarded
noise $((4 * MIB_EACH)) >/tmp/model
write_all
/usr/bin/blkdiscard "$DISK"
dd if=/dev/zero of=/tmp/model bs=1M count=$((4 * MIB_EACH)) status=none
compare
detach
