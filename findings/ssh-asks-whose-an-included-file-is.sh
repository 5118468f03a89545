#!/bin/sh
# ssh takes a configuration file after -F, or /etc/ssh/ssh_config, whoever may write it; what that file includes has to be the user's or
# root's and writable by nobody else, or ssh ends.
#
# Guess: ssh(1) asks for strict permissions of ~/.ssh/config alone, and ssh_config(5) says of Include no more than where its files are
# looked for. So a file that was mounted into a container as /etc/ssh/ssh_config.d/targets.conf, whoever it belongs to outside, counts as
# one does that was mounted as /etc/ssh/ssh_config.
# Seen: OpenSSH 9.2p1 (Debian 12, 1:9.2p1-2+deb12u10) and 10.0p2: "Bad owner or permissions on …", status 255, for the included one; the
# same text in the file that includes it counts. In readconf.c, Include adds SSHCONF_CHECKPERM for what it reads, which neither -F
# nor the system's file has.
# Fails if both count, or neither.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

ssh -V
printf 'Host nas\n  Port 2222\n' >targets.conf
echo "Include $work/targets.conf" >including
chmod 666 targets.conf including
[ "$(ssh -G -F targets.conf nas | grep '^port ')" = 'port 2222' ]
echo 'after -F: counts, although anybody may write it'
if ssh -G -F including nas >said 2>&1; then exit 1; fi
cat said
grep -q '^Bad owner or permissions' said
chmod 644 targets.conf
[ "$(ssh -G -F including nas | grep '^port ')" = 'port 2222' ]
echo 'as seen: what is included has to be strict, and not what includes it'
