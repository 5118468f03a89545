#!/bin/sh
# rsync's --timeout does not run while the names of --files-from are awaited.
#
# Guess: with --timeout=2, an rsync that hears nothing on either side for 7 seconds ends with exit status 30 ("timeout in data
# send/receive"), since rsync(1) says of --timeout: "If no data is transferred for the specified time then rsync will exit".
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12), client and server connected by pipes: the client reads the names from standard
# input, which stays silent for 7 seconds; it then transfers the file and ends with 0. The same where the names come at once and
# the end of standard input 7 seconds later. So a client that is started ahead of its work and waits for names may have a timeout.
# Fails if an rsync ends otherwise.
set -eu
VERSION=3.5.0+ds1-0+deb12u1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq "rsync=$VERSION" libpopt0 libxxhash0 liblz4-1 libzstd1 libacl1 >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
RSYNC="$work/root/usr/bin/rsync"
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so.*' -exec dirname {} + | sort -u | paste -sd:)
export LD_LIBRARY_PATH
"$RSYNC" --version | head -n 1

mkdir source target
echo content >source/file
printf '#!/bin/sh\nshift\nexec "$@"\n' >shell # a remote shell that runs the command here
chmod +x shell

transfer() {
  status=0
  began=$(date +%s)
  "$RSYNC" -a --timeout=2 --files-from=- --from0 --rsync-path="$RSYNC" -e ./shell source/ "host:$work/target/" || status=$?
  echo "$1: exit status $status after $(($(date +%s) - began)) s"
  [ "$status" -eq 0 ] && cmp source/file target/file
}

(sleep 7 && printf 'file\0') | transfer 'the names come after 7 s'
rm target/file
(printf 'file\0' && sleep 7) | transfer 'the names end after 7 s'
echo 'as seen: --timeout=2 has not ended it'
