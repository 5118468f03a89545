#!/bin/sh
# Two different files that rsync can read on neither side are equal to it, by checksum.
#
# Guess: with --checksum, a file that cannot be read is an error (status 23), or at least a difference: it has no checksum.
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): neither side says anything of such a file. Where one side can
# read it, it is different; where neither can and size is the same, "rsync -c --dry-run --itemize-changes" lists nothing, exit status 0. Who
# compares trees by it has to find out what can be read: rsync --list-only says what it looks at, access(2) whether that can be read.
# (find's -readable is no way on Alpine: BusyBox' find does not know it.)
# Fails if a difference or an error is told. Needs root, to be another user.
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
chmod -R a+rX "$work"

mkdir source target
echo words >source/secret
echo WORDS >target/secret
compare() {
  setpriv --reuid 65534 --regid 65534 --clear-groups "$RSYNC" -rc --dry-run --itemize-changes source/ target/
}

[ -n "$(compare)" ]
echo 'both can be read: different'
chmod 0 source/secret target/secret
chown 65534 source/secret target/secret
found=$(compare)
[ -z "$found" ]
echo 'as seen: neither can be read: equal, exit status 0'
