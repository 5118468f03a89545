#!/bin/sh
# rsync does not write its --log-file through a directory link that belongs to another user, says so, and ends with 0.
#
# Guess: a path is followed as open(2) does, all the more where fs.protected_symlinks is 0 and rsync runs as root; and an rsync that
# cannot open its log file ends with a status that says so: rsync(1) has none that would be 0.
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): "refusing to follow a symlink owned by an untrusted user", "Ignoring \"log file\" setting.",
# exit status 0, everything is transferred and no log is written. Only links of root and of the user are followed, in any component
# of the path. With --exclude-from in the same place it ends with 11, and with 3 for a target; a source is read through such a link.
# Fails if a log is written, or another status is given. Needs root, to give the link away.
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

mkdir source target real
echo content >source/file
echo '*.o' >real/rules
ln -s real link
chown -h 65534 link

transfer() {
  status=0
  "$RSYNC" -a "$@" >output 2>&1 || status=$?
  cat output
  echo "$*: exit status $status"
}

transfer --log-file="$work/link/log" source/ target/
[ "$status" -eq 0 ] && [ -e target/file ] && [ ! -e real/log ]
transfer --exclude-from="$work/link/rules" source/ target/
[ "$status" -eq 11 ]
transfer source/ "$work/link/"
[ "$status" -eq 3 ]
transfer "$work/link/" target/
[ "$status" -eq 0 ]
echo 'as seen: no log, and nothing in the status that says so'
