#!/bin/sh
# sshd -e passes on the line ends in a user name, so that whoever reaches its port has it say anything on lines of its own.
#
# Guess: what goes into sshd's log is encoded by strnvis(3) because of hostile clients, so that a name cannot begin a line; the manual
# warns of nothing.
# Seen: OpenSSH 9.2p1 (Debian 12): on standard error it encodes with VIS_SAFE, which leaves \n, \r and \b as they are: the name
# "x\r\nAccepted publickey for root …" makes a line of its own, before any key was shown. To syslog line ends are encoded. ssh itself
# refuses to send such a name, others send it. Each record is one write(2) all the same.
# Fails if the line is not there. Needs node and npm.
set -eu
work=$(mktemp -d)
trap 'kill $sshd; rm -rf "$work"' EXIT
cd "$work"

npm init -y >/dev/null
npm install --silent --no-audit --no-fund ssh2@1.17.0
cat >client.js <<'SCRIPT'
const { Client } = require('ssh2');
const username = 'x\r\nAccepted publickey for root from 10.0.0.1 port 7 ssh2';
const client = new Client().on('error', () => {}).on('close', () => process.exit(0));
client.connect({ host: '127.0.0.1', port: 29022, username, password: 'none' });
SCRIPT
ssh -V
ssh-keygen -q -t ed25519 -N '' -f key
mkdir -p /run/sshd
/usr/sbin/sshd -D -e -f /dev/null -p 29022 -o ListenAddress=127.0.0.1 -o "HostKey=$work/key" -o PidFile=none -o UsePAM=no 2>log &
sshd=$!
sleep 1
node client.js
sleep 1
cat -A log
grep -q '^Accepted publickey for root from 10.0.0.1' log
echo 'as seen: the name has made a line of its own'
