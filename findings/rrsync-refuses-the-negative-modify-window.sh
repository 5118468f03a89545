#!/bin/sh
# rrsync lets the letter of --modify-window pass with a number, but not with -1, the one value that has a meaning of its own, and does not
# say which option it was.
#
# Guess: rrsync comes in the package of rsync, and its lists of options are made from rsync's source; --modify-window=-1 (times are compared
# to the nanosecond, since 3.1.3) is as harmless as --modify-window=1, so that a confined key takes both or none.
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): with --modify-window=1 the file arrives; -1 goes over the line as -@-1, where rrsync wants
# digits behind the letter: "invalid rsync-command syntax or options", status 12 on the client, and nothing arrives.
# Fails if both work, or neither.
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
sed "s|^RSYNC = .*|RSYNC = '$work/root/usr/bin/rsync'|" root/usr/bin/rrsync >rrsync
mkdir source confined
echo content >source/file
# A remote shell whose key may run rrsync alone.
printf '#!/bin/sh\nshift\necho "$*" >command\nSSH_ORIGINAL_COMMAND="$*" exec python3 rrsync -wo confined\n' >shell
chmod +x shell
rsync -a --modify-window=1 -e ./shell source/ host:/
[ -f confined/file ]
rm confined/file
status=0
rsync -a --modify-window=-1 -e ./shell source/ host:/ 2>said || status=$?
cat command said
echo "status $status"
grep -q -- ' -@-1 ' command
grep -q 'invalid rsync-command syntax or options' said
[ "$status" -eq 12 ]
[ ! -e confined/file ]
echo 'as seen: -1 is refused, and 1 is not'
