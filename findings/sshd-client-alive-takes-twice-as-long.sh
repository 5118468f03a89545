#!/bin/sh
# sshd ends the session of a client that does not answer only after more than twice the time that its manual gives.
#
# Guess: with ClientAliveInterval 3 and ClientAliveCountMax 2, a client that was stopped is cut after some 6 seconds, for
# sshd_config(5) says of 15 and 3: "unresponsive SSH clients will be disconnected after approximately 45 seconds".
# Seen: OpenSSH 9.2p1 (Debian 12, 1:9.2p1-2+deb12u10): after 15 to 18 seconds; with 15 and 3 after 117. In serverloop.c, sshd waits for the
# interval from now on, and then asks for more than that since the last sign of life in whole seconds (now > last_client_time +
# interval), which has mostly not passed yet, so that it waits once more; and it counts one more probe than the option says.
# Fails if the session ends within 12 seconds. Needs sshd, and root or a user whose key may log in.
set -eu
work=$(mktemp -d)
trap '[ $client -eq 0 ] || kill -KILL $client; kill "$(cat "$work/pid")" 2>/dev/null; rm -rf "$work"' EXIT
client=0
cd "$work"
chmod 700 .

SSHD=$(command -v sshd || echo /usr/sbin/sshd)
ssh -V
ssh-keygen -q -t ed25519 -N '' -f key
ssh-keygen -q -t ed25519 -N '' -f host
cp key.pub authorized_keys
port=$((10000 + $$ % 20000))
cat >config <<END
HostKey $work/host
ListenAddress 127.0.0.1:$port
PidFile $work/pid
AuthorizedKeysFile $work/authorized_keys
StrictModes no
UsePAM no
ClientAliveInterval 3
ClientAliveCountMax 2
END
mkdir -p /run/sshd
"$SSHD" -f config -E log
until [ -s pid ]; do sleep 0.1; done
ssh -F none -i key -p $port -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
  "$(id -un)@127.0.0.1" 'echo ready; exec sleep 1000' >said & client=$!
until grep -qs ready said; do sleep 0.1; done

kill -STOP "$client"
began=$(date +%s)
listener=$(cat pid)
while [ -n "$(cat "/proc/$listener/task/$listener/children")" ]; do sleep 0.1; done
seconds=$(($(date +%s) - began))
echo "ended after $seconds s"
[ "$seconds" -ge 12 ]
echo 'as seen: that is not approximately 6'
