#!/bin/sh
# rsync 3.5.0 with --inplace writes through a link that takes the place of a directory while a file in it is received.
#
# Guess: 3.5.0 goes down to what it writes directory by directory and follows no link of the destination, so whoever may write there
# leads it nowhere else, whatever the options are.
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): without --inplace the files behind the one that is under way fail with ENOENT; with --inplace they are written
# into the directory that the link leads to, one that was there already is overwritten, and the exit status is 23 for the first file alone.
# Fails if the file outside is not overwritten with --inplace, or is without.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

rsync --version | head -1
mkdir -p source/d
head -c 600000 /dev/zero >source/d/a
echo overwritten >source/d/b

# Receives with the options given, and has the directory become a link meanwhile; says what the file outside holds then.
receive() {
  rm -rf backup outside
  mkdir -p backup/d outside
  echo safe >outside/b
  rsync -a --whole-file --bwlimit=100 "$@" source/ backup/ 2>errors &
  until [ "$(find backup/d -type f | wc -l)" -gt 0 ]; do sleep 0.1; done
  sleep 1
  mv backup/d backup/gone
  ln -s ../outside backup/d
  wait $! || true
  cat outside/b
}

plain=$(receive)
inplace=$(receive --inplace)
echo "without --inplace: $plain; with it: $inplace"
[ "$plain $inplace" = 'safe overwritten' ]
echo 'as seen: rsync follows a directory that has become a link'
