# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# lib - talk to the test, attach the disk; leaving the script ends the guest
#
# The first serial line is the console: the kernel's messages, and a trace of all that is done.
# The second, descriptor 3, is the conversation with the test: a word a line.

exec </dev/console >/dev/console 2>&1 3<>/dev/ttyS1
stty -echo -onlcr <&3
# shellcheck disable=SC3040 # busybox has it
set -eux -o pipefail

DISK=/dev/nbd0
TLS=
if [ -d /files ]; then
    TLS="-enable-tls -tlshostname localhost -cacertfile /files/ca-cert.pem"
    TLS="$TLS -certfile /files/client-cert.pem -keyfile /files/client-key.pem"
fi

# meet WORD - tell the test, and wait until it says to go on
meet() {
    echo "$1" >&3
    read -r _ <&3
}

finish() {
    status=$?
    trap - EXIT
    meet "end $status"
    poweroff -f
}
trap finish EXIT

# attach [OPTION...] - with two connections
attach() {
    # shellcheck disable=SC2086 # words
    /usr/bin/nbd-client 10.0.2.2 "$PORT" "$DISK" -C 2 $TLS "$@"
}

detach() {
    /usr/bin/nbd-client -d "$DISK"
    wait_for disk_is_gone
}

disk_is_gone() {
    [ "$(cat /sys/block/nbd0/size)" = 0 ] && [ "$(connections)" = 0 ]
}

# How many the kernel holds to the server.
connections() {
    netstat -tn | grep -c "10.0.2.2:$PORT .*ESTABLISHED"
}

# wait_for COMMAND - until it succeeds, for 20 seconds at most
wait_for() {
    tries=200
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ]
        sleep 0.1
    done
}

# wait_all PID... - all of them must succeed
wait_all() {
    for pid; do wait "$pid"; done
}

# noise MIB
noise() {
    dd if=/dev/urandom bs=1M count="$1" status=none
}
