#!/bin/sh
# Where a source file vanishes during a transfer, rsync's exit status does not say that --max-delete has stopped deletions.
#
# Guess: exit status 25 ("the --max-delete limit stopped deletions") is told whenever deletions were left undone, for it says more
# than 24 ("some files vanished before they could be transferred"), which scripts are used to taking for a success.
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): with --max-delete=0 and a file too many in the target it ends with 25. If a file of
# the source is removed meanwhile as well, it ends with 24, and nothing in the status tells of the deletion left undone; the line
# "Deletions stopped due to --max-delete limit (1 skipped)" is printed in both cases. Who takes 24 for a success has to read that
# line, or count the deletions.
# Fails if the status is another one.
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

# Transfers a file that takes 3 s and a small one behind it, into a target with a file too many; $1 is run after 1 s.
transfer() {
  rm -rf source target
  mkdir source target
  head -c 3000000 /dev/zero >source/a
  echo content >source/z
  echo extra >target/extra
  status=0
  (sleep 1 && "$@") &
  "$RSYNC" -a --whole-file --bwlimit=1000 --delete --max-delete=0 --rsync-path="$RSYNC" source/ target/ >output 2>&1 || status=$?
  wait
  grep -h 'max-delete' output
  [ -e target/extra ]
  echo "$*: exit status $status"
}

transfer true
[ "$status" -eq 25 ]
transfer rm source/z
[ "$status" -eq 24 ]
echo 'as seen: 24 hides 25'
