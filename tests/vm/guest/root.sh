# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# root - switch to the system on the disk $ROOT

if [ "$ROOT" = "$DISK" ]; then
    attach
    [ "$(connections)" = 2 ]
fi
mount -o ro "$ROOT" /mnt
for folder in dev proc sys tmp; do
    mount --move /$folder /mnt/$folder
done
trap - EXIT
exec switch_root /mnt /sbin/init
