#!/bin/sh
# rsync --qsort works between two local directories and never over a remote shell: the client sends a name that no rsync knows.
#
# Guess: an option of the manual that is passed on to the other side ("--qsort: use qsort() instead of merge sort") is passed on by a name
# that the other side of the same version understands.
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): the command line for the other side holds --use-qsort, which rsync itself answers with "unknown option", status 1, and
# the client ends with status 12. Locally it is accepted.
# Fails if the transfer by a remote shell works.
set -eu
VERSION=3.5.0+ds1-0+deb12u1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq "rsync=$VERSION" libpopt0 libxxhash0 liblz4-1 libzstd1 libacl1 >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
PATH="$work/root/usr/bin:$PATH"
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so.*' -exec dirname {} + | sort -u | paste -sd:)
export LD_LIBRARY_PATH
rsync --version | head -n 1
mkdir source
echo content >source/file
# A remote shell that runs the command here.
printf '#!/bin/sh\nshift\necho "$*" >command\nexec "$@"\n' >shell
chmod +x shell
rsync -a -e ./shell source/ host:remote/
[ -f remote/file ]
status=0
rsync -a --qsort -e ./shell source/ host:other/ 2>said || status=$?
cat command said
echo "status $status"
grep -q -- --use-qsort command
grep -q 'use-qsort: unknown option' said
[ "$status" -ne 0 ]
echo 'as seen: its own name for the option is refused'
