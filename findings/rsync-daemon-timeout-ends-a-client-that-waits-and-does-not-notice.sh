#!/bin/sh
# An rsync daemon's "timeout" ends a client that waits for the names of --files-from, and the client does not notice.
#
# Guess: --timeout does not run while names are awaited (rsync-timeout-does-not-cover-the-wait-for-names.sh), and a daemon's "timeout" is
# that option by another name, so that it does not run there either; and if it did, the client would end with its connection.
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): under "timeout = 3" the daemon ends the session of a client that has sent nothing for so long,
# with status 30 in its log. The client lives on, with a connection that the other side has closed, for as long as no name comes, and ends
# with 12 or 10 once one does: what was named is not sent.
# Fails if the daemon keeps the session, if the client ends before it is given a name, or if it sends the file.
set -eu
apt-get install -y -qq rsync=3.5.0+ds1-0+deb12u1 >/dev/null 2>&1
work=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
rsync --version | head -n 1

mkdir source target
echo content >source/file
mkfifo names
cat >rsyncd.conf <<END
port = 18730
address = 127.0.0.1
log file = $work/log
[target]
path = $work/target
read only = no
use chroot = no
timeout = 3
END
[ "$(id -u)" != 0 ] || printf 'uid = 0\ngid = 0\n' >>rsyncd.conf
rsync --daemon --no-detach --config=rsyncd.conf &
daemon=$!
until grep -q 'listening on port' log 2>/dev/null; do sleep 0.1; done

rsync -a --files-from=- source/ rsync://127.0.0.1:18730/target/ <names 2>said &
client=$!
exec 3>names
until grep -q 'io timeout\|timeout in data' log; do sleep 0.1; done
grep 'timeout in data' log
sleep 2
kill -0 "$client"
echo 'the client: still waits'

echo file >&3
exec 3>&-
status=0
wait "$client" || status=$?
cat said
echo "the client: exit status $status, the target holds $(ls target | wc -l) files"
[ "$status" = 12 ] || [ "$status" = 10 ]
[ ! -e target/file ]
echo 'as seen: the daemon hangs up, and the client does not notice'
