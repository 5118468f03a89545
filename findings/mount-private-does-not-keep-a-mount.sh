#!/bin/sh
# A mount that was made private in a mount namespace of one's own still goes when it is unmounted elsewhere.
#
# Guess: after `mount --make-private M` in a new namespace, M has nothing to do any more with the M that it is a copy of, so that a
# process there goes on to see it after `umount --lazy M` outside: findmnt shows M as private.
# Seen: util-linux 2.38.1-5+deb12u3 (Debian 12), Linux 6.18: M goes in the namespace as well. What decides is the mount that M lies
# on, for to unmount is an event below that (mount_namespaces(7) says that events "immediately under this mount" propagate). M
# stays where the directory above it was mounted once more over itself (mount --rbind D D) and that made private with all below.
# Fails if either is otherwise. Needs root.
set -eu
VERSION=2.38.1-5+deb12u3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq "util-linux=$VERSION" "mount=$VERSION" "libmount1=$VERSION" "libsmartcols1=$VERSION" >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so.*' -exec dirname {} + | sort -u | paste -sd:)
PATH="$work/root/bin:$work/root/usr/bin:$PATH"
export LD_LIBRARY_PATH PATH
mount --version
mkdir -p d/m

# Says what is seen of d/m after it was unmounted outside, in a namespace in which $1 was done before.
cat >try <<'END'
mount --make-rshared /
mount -t tmpfs tmpfs d/m
touch d/m/inside
mkfifo ready go
unshare --mount --propagation slave sh -c "$1; echo >ready; read _ <go; ls d/m" >seen &
read _ <ready
umount --lazy d/m
echo >go
wait
rm ready go
END
keeps() { unshare --mount --propagation private sh -eu try "$1"; }

keeps "mount --make-private $work/d/m; findmnt -no PROPAGATION $work/d/m"
echo "the mount made private: $(paste -sd' ' seen)"
[ "$(cat seen)" = private ]
keeps "mount --rbind $work/d $work/d; mount --make-rprivate $work/d; cd $work"
echo "what it lies on made private: $(cat seen)"
[ "$(cat seen)" = inside ]
echo 'as seen: it is the mount above that decides'
