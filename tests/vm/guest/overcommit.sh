# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# overcommit - serve a disk on a machine that commits no more memory than it has

# shellcheck source=tests/vm/guest/server.sh
. /guest/server.sh

committed() {
    field /proc/meminfo Committed_AS:
}

# Memory goes back to the system in the background.
is_given_back() {
    trimmed=$(committed)
    [ $((trimmed - empty)) -lt $(((full - empty) / 8)) ]
}

echo 90 >/proc/sys/vm/overcommit_ratio
echo 2 >/proc/sys/vm/overcommit_memory
serve /usr/bin/nbdram 1G "allocator=$ALLOCATOR"
empty=$(committed)
meet "empty $empty"
full=$(committed)
meet "full $full"
wait_for is_given_back
meet "trimmed $trimmed"
stop_server
