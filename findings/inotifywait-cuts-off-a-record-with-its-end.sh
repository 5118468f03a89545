#!/bin/sh
# inotifywait cuts off what it prints of an event at 4095 bytes, with the NUL or line end that the format puts behind it.
#
# Guess: with --format '%e|%w%f%0' each event is one record that ends in a NUL, whatever the names are; one that is too long loses
# the end of its name.
# Seen: inotify-tools 3.22.6.0-4 (Debian 12), and 4.23.9 and 4.25.9 likewise: below a directory with a path of nearly 4096 bytes
# the record has no end, so that the next event, of any other file, becomes the end of its name, and is lost to who reads it. Anyone
# who may write in the tree can make such a directory. With a NUL before each record as well, every event is read.
# Fails if a record has an end.
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

# Writes how many records tell of the file `next`, with the format $1.
records() {
  rm -rf tree
  mkdir tree
  (
    cd tree
    name=$(printf %0200d 0)
    while [ "$(pwd | wc -c)" -lt 3850 ]; do mkdir "$name" && cd "$name"; done
    name=$(printf "%0$((4085 - $(pwd | wc -c)))d" 0)
    mkdir "$name"
  )
  "$INOTIFYWAIT" -q -m -r -e create --format "$1" --no-newline "$work/tree" >output &
  watcher=$!
  sleep 1
  (cd tree && while [ -d 0* ]; do cd 0*; done && touch "$(printf %0100d 1)")
  sleep 0.5
  touch tree/next
  sleep 0.5
  kill "$watcher"
  tr '\0' '\n' <output | grep -c "^CREATE|$work/tree/next\$" || true
}

[ "$(records '%e|%w%f%0' | tee /dev/stderr)" -eq 0 ]
[ "$(records '%0%e|%w%f%0' | tee /dev/stderr)" -eq 1 ]
echo 'as seen: the event behind a long one has no record of its own'
