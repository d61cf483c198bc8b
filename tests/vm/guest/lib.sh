# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# lib - talk to the test, attach the disk; the end of the script ends the guest
#
# The first serial line is the console, with the kernel's messages and a trace of all commands.
# The second one, descriptor 3, is the conversation with the test, one word a line.

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

# meet WORD - send the test a word, and wait until it replies
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

# attach [OPTION...] - attach the disk, with two connections
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

# connections - print how many connections to the server the kernel has
connections() {
    netstat -tn | grep -c "10.0.2.2:$PORT .*ESTABLISHED"
}

# wait_for COMMAND - wait until it succeeds, for 20 seconds at most
wait_for() {
    tries=200
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ]
        sleep 0.1
    done
}

# wait_all PID... - wait for all of them; each must succeed
wait_all() {
    for pid; do wait "$pid"; done
}

# noise MIB - print random bytes
noise() {
    dd if=/dev/urandom bs=1M count="$1" status=none
}
