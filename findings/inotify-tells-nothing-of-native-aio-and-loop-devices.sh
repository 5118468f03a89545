#!/bin/sh
# inotify tells nothing of what is written by Linux's native AIO or through a loop device, until the file is closed.
#
# Guess: every write by a call of the kernel gives IN_MODIFY; inotify(7) names memory maps alone (mmap, msync, munmap) as what does not.
# Seen: Linux 6.18, inotifywait 3.22.6.0-4 (Debian 12): io_submit(2) with IOCB_CMD_PWRITE gives no event, pwrite(2) on the same
# descriptor does. A mkfs in a loop device gives none either; IN_CLOSE_WRITE comes once the device is detached.
# Fails if it is otherwise. Needs python3 on x86-64, and root for the loop device.
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
truncate -s 20M d/disk
"$work/root/usr/bin/inotifywait" -m -e modify -e close_write --format '%e %f' -o seen d 2>said &
watcher=$!
until grep -q established said; do sleep 0.1; done

cat >try.py <<'PYTHON'
import ctypes, mmap, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
SETUP, GETEVENTS, SUBMIT = 206, 208, 209
fd = os.open('d/file', os.O_RDWR | os.O_CREAT | os.O_DIRECT)
page = mmap.mmap(-1, 4096)
page.write(b'x' * 4096)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
context = ctypes.c_ulong(0)
assert libc.syscall(SETUP, 8, ctypes.byref(context)) == 0
PWRITE = 1
block = ctypes.create_string_buffer(struct.pack('=QIiHhIQQqQII', 0, 0, 0, PWRITE, 0, fd, address, 4096, 0, 0, 0, 0), 64)
pointer = ctypes.c_void_p(ctypes.addressof(block))
assert libc.syscall(SUBMIT, context, 1, ctypes.byref(pointer)) == 1
event = ctypes.create_string_buffer(32)
assert libc.syscall(GETEVENTS, context, 1, 1, event, None) == 1
assert struct.unpack('=QQqq', event.raw)[2] == 4096
time.sleep(1)
print('after io_submit:', open('seen').read().split('\n')[:-1])
os.pwrite(fd, page, 0)
time.sleep(1)
print('after pwrite:', open('seen').read().split('\n')[:-1])
PYTHON
python3 try.py | tee told
grep -qx 'after io_submit: \[\]' told
grep -qx "after pwrite: \['MODIFY file'\]" told

: >seen
device=$(losetup -f --show d/disk)
mkfs.ext4 -q "$device"
sync
sleep 1
echo "after mkfs in a loop device: $(grep -c disk seen || true) events"
! grep -q disk seen
losetup -d "$device"
sleep 1
echo "after it is detached: $(grep disk seen | paste -sd' ')"
grep -q 'CLOSE_WRITE,CLOSE disk' seen
echo 'as seen: until the file is closed, nothing is told'
