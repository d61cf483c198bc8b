# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# swap - swap to a disk in this guest's own memory
#
# The disk has $SIZE bytes.  A program uses $MIB MiB for $SPAN seconds.

SOCKET=/tmp/socket

is_served() {
    [ -S $SOCKET ] && [ -s /tmp/pid ]
}

# facts WORD - tell the test about the server: its size, how much of it is locked, resident and
# swapped out, in KiB, and its score; and how many pages were written to the disk, and read
facts() {
    status=/proc/$pid/status
    numbers=
    for key in VmSize: VmLck: VmRSS: VmSwap:; do
        numbers="$numbers $(awk -v key=$key '$1 == key { print $2 }' "$status")"
    done
    numbers="$numbers $(cat "/proc/$pid/oom_score_adj")"
    for key in pswpout pswpin; do
        numbers="$numbers $(awk -v key=$key '$1 == key { print $2 }' /proc/vmstat)"
    done
    meet "$1$numbers"
}

# unlocked - print how many KiB of the server's anonymous memory are not locked
unlocked() {
    awk '/^Anonymous:/ { here = $2 }
        /^VmFlags:/ && !/ lo( |$)/ { all += here }
        END { print all + 0 }' "/proc/$pid/smaps"
}

/usr/bin/nbdram -f --swap -U $SOCKET -P /tmp/pid "$SIZE" allocator=malloc &
server=$!
wait_for is_served
pid=$(cat /tmp/pid)
/usr/bin/nbd-client -unix $SOCKET "$DISK" -swap
mkswap "$DISK"
swapon "$DISK"
facts before
rounds=$(/usr/bin/vm-pages "$MIB" "$SPAN")
facts after
swapoff "$DISK"
noise 4 >/tmp/model
dd if=/tmp/model of="$DISK" bs=1M oflag=direct status=none
dd if="$DISK" bs=1M count=4 iflag=direct status=none | /usr/bin/cmp - /tmp/model
meet "recovered $rounds $(unlocked)"
/usr/bin/nbd-client -d "$DISK"
kill "$pid"
wait $server
