#!/bin/sh
# rsync opens a directory of which a rule hides all that is in it, and where it may not read that, it deletes nothing from there on.
#
# Guess: with --filter='H /closed/**' nothing below closed/ is part of the transfer, so there is no need to look into it; to leave
# alone what cannot be read, while the directory itself stays mirrored, that rule (with 'P /closed/**' beside it) should do.
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): it opens the directory all the same. An ordinary user who may not read it gets "opendir failed",
# "IO error encountered -- skipping file deletion" and status 23, and a file that has gone from a later directory stays on the
# receiving side for as long as that lasts. With 'H /closed/***', which hides the directory too, the status is 0 and it is deleted.
# Fails if either rule does something else.
set -eu
VERSION=3.5.0+ds1-0+deb12u1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq "rsync=$VERSION" libpopt0 libxxhash0 liblz4-1 libzstd1 libacl1 >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
LD_LIBRARY_PATH=$(find "$work/root" -name "*.so.*" -exec dirname {} + | sort -u | paste -sd:)
export LD_LIBRARY_PATH
rsync="$work/root/usr/bin/rsync"
"$rsync" --version | head -n 1
chmod 755 "$work"

# Tries a rule as an ordinary user; tells the status and whether the file that is gone from the source is still there.
try() {
  rm -rf source copy
  mkdir -p source/closed source/later copy/closed copy/later
  echo kept >source/closed/file
  cp source/closed/file copy/closed/
  echo gone >copy/later/gone
  chown -R 65534:65534 copy
  chmod 000 source/closed
  status=0
  setpriv --reuid=65534 --regid=65534 --clear-groups \
    "$rsync" -a --delete --filter='P /closed/**' --filter="$1" source/ copy/ >said 2>&1 || status=$?
  cat said >&2
  test -f copy/closed/file
  left=$(ls copy/later)
}

try 'H /closed/**'
[ "$status: $left" = '23: gone' ]
grep -q 'skipping file deletion' said
try 'H /closed/***'
[ "$status: $left" = '0: ' ]
echo 'as seen: the rule that hides only what is in the directory does not keep rsync from opening it'
