# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# server - run a server in the guest, and connect it to the test
#
# The guest's network cannot be reached from outside.  So a relay connects to the test's port
# $PORT, and then to the server.

OWN_PORT=10809

server_listens() {
    netstat -ltn | grep "127.0.0.1:$OWN_PORT "
}

# serve COMMAND... - run COMMAND, which is nbdram, with more options; and one relay to the test
serve() {
    "$@" -f -4 -p $OWN_PORT -P /tmp/pid &
    server=$!
    wait_for server_listens
    nc 10.0.2.2 "$PORT" -e /bin/nc 127.0.0.1 $OWN_PORT &
}

# stop_server - end the server; its exit status must be 0
stop_server() {
    kill "$(cat /tmp/pid)"
    wait "$server"
}

# field FILE KEY - print the number that follows KEY in a file of lines "KEY NUMBER"
field() {
    awk -v key="$2" '$1 == key { print $2 }' "$1"
}
