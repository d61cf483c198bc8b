# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# files - use an ext4 file system on a disk of $SIZE bytes, write $MIB MiB, mount with $OPTIONS

# write_file NAME - store standard input, and the checksum of it rather than of what was stored
write_file() {
    tee "/mnt/$1" | sha256sum | sed "s|-\$|$1|" >"/tmp/sum-${1%%/*}-${1##*/}"
}

# write_folder NAME MIB - store four files of noise
write_folder() {
    mkdir "/mnt/$1"
    for file in 1 2 3 4; do
        noise $(($2 / 4)) | write_file "$1/$file"
    done
}

# Mount it again and compare.  The guest's memory holds none of its data any more.
check_files() {
    umount /mnt
    blockdev --flushbufs "$DISK"
    echo 3 >/proc/sys/vm/drop_caches
    mount -o "$OPTIONS" "$DISK" /mnt
    (cd /mnt && cat /tmp/sum-* | sha256sum -c)
}

attach
[ "$(blockdev --getsize64 "$DISK")" = "$SIZE" ]
[ "$(connections)" = 2 ]
/usr/bin/mke2fs -q -t ext4 -b 4096 "$DISK"
mount -o "$OPTIONS" "$DISK" /mnt
meet empty

pids=
for name in a b c d; do
    write_folder $name $((MIB / 4)) &
    pids="$pids $!"
done
mkdir /mnt/text
seq 1 1000000 | write_file text/numbers
# shellcheck disable=SC2086 # words
wait_all $pids
sync
meet full
check_files

rm -r /mnt/b /mnt/c /mnt/d
rm /tmp/sum-[bcd]-*
sync
[ "$OPTIONS" = discard ] || fstrim -v /mnt
meet trimmed
check_files

cat /tmp/sum-* >/mnt/sums
umount /mnt
detach
attach -b 4096
[ "$(cat /sys/block/nbd0/queue/logical_block_size)" = 4096 ]
mount "$DISK" /mnt
check_files
umount /mnt
detach
