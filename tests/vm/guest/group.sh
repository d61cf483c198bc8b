# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# group - serve a disk in a control group whose limits are $MAX and $HIGH
#
# The group also holds $CACHE MiB of page cache.  When the test says so, a neighbour in the group
# grows by $GROWTH MiB.

# shellcheck source=tests/vm/guest/server.sh
. /guest/server.sh
GROUP=/sys/fs/cgroup/limited

in_group() {
    sh -c "echo 0 >$GROUP/cgroup.procs && exec \"\$@\"" sh "$@"
}

# Read a device twice, upon which the kernel calls its cache active.  The kernel drops the cache
# when nobody has the device open.
fill_cache() {
    exec 4</dev/vda
    in_group dd if=/dev/vda of=/dev/null bs=1M count="$CACHE"
    in_group dd if=/dev/vda of=/dev/null bs=1M count="$CACHE"
}

# dd reads everything into its memory before it writes, so its first byte says that it has grown.
# Nobody reads the rest, so it keeps its memory.
grow() {
    mkfifo /tmp/grown
    exec 5<>/tmp/grown
    in_group dd if=/dev/zero of=/tmp/grown bs="${GROWTH}M" count=1 &
    head -c 1 <&5 >/dev/null
    meet grown
}

mount -t cgroup2 none /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir $GROUP
echo "$MAX" >$GROUP/memory.max
echo "$HIGH" >$GROUP/memory.high
[ "$CACHE" = 0 ] || fill_cache
serve in_group /usr/bin/nbdram 1G "allocator=$ALLOCATOR"
meet "serving $(field $GROUP/memory.stat active_file)"
[ "$GROWTH" = 0 ] || grow
meet "full $(field $GROUP/memory.events oom_kill) $(field $GROUP/memory.events high)"
stop_server
