#!/bin/sh
# inotifywait -r says "Watches established." although it has passed over directories in which something went while it looked.
#
# Guess: with -r all directories are watched once it says so; what cannot be watched is told, or is a reason to end.
# Seen: inotify-tools 3.22.6.0-4 (Debian 12), and 4.23.9 and 4.25.9 likewise (inotifytools_watch_recursively_with_exclude): it
# looks at each entry that it has read of a directory. Where one is gone by then (ENOENT), it leaves that directory, and all in it
# that it has not reached yet, without a watch and goes on without a word, so that nothing is ever told of what happens there. The
# same holds where it may not enter one (EACCES). Who needs to know compares the watches in /proc/PID/fdinfo with the tree.
# Fails if each of 400 starts in a tree with much coming and going has all watches.
set -eu
VERSION=3.22.6.0-4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq "inotify-tools=$VERSION" "libinotifytools0=$VERSION" >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so.*' -exec dirname {} + | sort -u | paste -sd:)
export LD_LIBRARY_PATH
INOTIFYWAIT="$work/root/usr/bin/inotifywait"
"$INOTIFYWAIT" --help | head -n 1

mkdir tree
for d in $(seq 200); do for s in $(seq 10); do mkdir -p "tree/$d/$s"; done; done
directories=$(find tree -type d | wc -l)
(cd tree && while :; do for d in *; do for f in a b c d e; do : >"$d/$f"; done; done; rm -f -- */[a-e]; done) &
churn=$!
trap 'kill "$churn"; wait "$churn" 2>/dev/null || true; rm -rf "$work"' EXIT

for n in $(seq 400); do
  "$INOTIFYWAIT" -m -r tree >/dev/null 2>messages &
  watcher=$!
  until grep -q established messages; do sleep 0.05; done
  watches=$(cat "/proc/$watcher/fdinfo/"* 2>/dev/null | grep -c '^inotify ' || true)
  kill "$watcher" || { cat messages; continue; } # it has ended by itself
  [ "$watches" -lt "$directories" ] || continue
  cat messages
  echo "start $n: $watches watches, $directories directories"
  echo 'as seen: some directories have no watch, without a word'
  exit
done
exit 1
