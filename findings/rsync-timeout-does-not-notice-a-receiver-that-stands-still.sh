#!/bin/sh
# rsync's --timeout does not notice that the process that writes the files stands still.
#
# Guess: with --timeout=3, an rsync whose other side is stopped, or hangs in its disk, ends with exit status 30 after 3 seconds without
# data, for rsync(1) says of --timeout: "If no data is transferred for the specified time then rsync will exit".
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12), client and server connected by pipes: the server consists of two processes once it
# has its list, the generator and the receiver. With the receiver stopped, the generator goes on sending keep-alives (io.c says that
# the writes to the sender "will keep things going"), and the client is still there after 15 seconds. With both stopped it ends with 30.
# Fails if the first one ends by itself, or the second one does not.
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
head -c 100000000 /dev/zero >source/file
printf '#!/bin/sh\nshift\nexec "$@"\n' >shell # a remote shell that runs the command here
chmod +x shell

# Stops what $1 says 2 s after a transfer has begun, and says how that has ended within 15 s.
transfer() {
  "$RSYNC" -a --timeout=3 --bwlimit=20000 --rsync-path="$RSYNC" -e ./shell source/ "host:$work/target/" & client=$!
  sleep 2
  generator=$(cat "/proc/$client/task/$client/children")
  generator=${generator%% *}
  receiver=$(cat "/proc/$generator/task/$generator/children")
  case "$1" in receiver) kill -STOP $receiver ;; both) kill -STOP $generator $receiver ;; esac
  for _ in $(seq 15); do [ -e "/proc/$client/exe" ] && sleep 1; done
  if [ -e "/proc/$client/exe" ]; then ended=no; else ended=yes; fi
  kill -KILL $client $generator $receiver 2>/dev/null || true
  status=0
  wait "$client" || status=$?
  rm -rf target/* target/.file*
  echo "$1 stopped: ended by itself: $ended, exit status $status"
}

transfer receiver
[ "$ended" = no ]
transfer both
[ "$ended" = yes ] && [ "$status" -eq 30 ]
echo 'as seen: --timeout does not notice it'
