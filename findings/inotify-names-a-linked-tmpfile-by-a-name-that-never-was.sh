#!/bin/sh
# inotify goes on naming a file that was made by O_TMPFILE as `#` and its inode after linkat(2) has given it a name.
#
# Guess: a file that was made without a name (open(2), O_TMPFILE) and then linked into the watched directory as `final` is a file like
# any other: what is written to the open descriptor from then on is told as MODIFY and CLOSE_WRITE of `final`.
# Seen: Linux 6.18, inotifywait 3.22.6.0-4 (Debian 12), on ext4 and tmpfs: CREATE comes for `final`, and every event of the descriptor
# before and after that for `#12345`, a name that no directory has ever held. Who looks that name up finds nothing, and never hears
# of `final` again, although its content changes.
# Fails if the linked name is told of a write. Needs python3.
set -eu
VERSION=3.22.6.0-4
work=$(mktemp -d)
trap 'kill $watcher; rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq "inotify-tools=$VERSION" "libinotifytools0=$VERSION" >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so.*' -exec dirname {} + | sort -u | paste -sd:)
export LD_LIBRARY_PATH
uname -sr
mkdir d
"$work/root/usr/bin/inotifywait" -m -e create -e modify -e close_write --format '%e %f' -o seen d 2>said &
watcher=$!
until grep -q established said; do sleep 0.1; done

cat >try.py <<'PYTHON'
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
fd = os.open('d', os.O_TMPFILE | os.O_WRONLY)
os.write(fd, b'before')
assert libc.linkat(AT_FDCWD, b'/proc/self/fd/%d' % fd, AT_FDCWD, b'd/final', AT_SYMLINK_FOLLOW) == 0
os.write(fd, b' after')
os.close(fd)
PYTHON
python3 try.py
sleep 1
cat seen
[ "$(cat d/final)" = 'before after' ]
grep -q '^CREATE final$' seen
grep -q '^MODIFY #[0-9]*$' seen
grep -q '^CLOSE_WRITE,CLOSE #[0-9]*$' seen
! grep -E '^(MODIFY|CLOSE_WRITE,CLOSE) final$' seen
echo 'as seen: what is written after the link is told of a name that never was'
