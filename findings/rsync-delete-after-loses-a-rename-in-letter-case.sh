#!/bin/sh
# rsync --delete-after and --delete-delay delete a file that was renamed in letter case only, where the target tells no case.
#
# Guess: rsync looks what the target holds, transfers the new name and deletes the old one; whichever way round, the file is there at the
# end. --delete-after is the careful choice, for nothing is missing in between.
# Seen: rsync 3.5.0+ds1-0+deb12u1, exfat-fuse 1.3.0+git20220115-2 (Debian 12): the source has "foo", the target "Foo" of the same size and
# time. lstat(2) of "foo" finds the file there, so that nothing is transferred; readdir(3) lists "Foo", which is deleted as one that the
# source has not. Exit status 0, and the next run transfers the file anew. With --delete (--delete-during) and --delete-before, "Foo" goes
# first, and the file is there at the end. When rsync deletes is the receiver's affair alone: an rsync --server that is started with
# --delete-during in their place deletes first, and the client does not mind.
# Fails if the file is there under --delete-after or --delete-delay, or is missing under the others. Needs root, and loop devices.
set -eu
apt-get install -y -qq rsync=3.5.0+ds1-0+deb12u1 exfat-fuse=1.3.0+git20220115-2 exfatprogs >/dev/null 2>&1
work=$(mktemp -d)
disk=
trap 'umount "$work/target" 2>/dev/null; [ -z "$disk" ] || losetup -d "$disk"; rm -rf "$work"' EXIT
cd "$work"
rsync --version | head -n 1

mkdir source target
truncate -s 32M image
mkfs.exfat image >/dev/null
disk=$(losetup -f --show image)
mount.exfat-fuse "$disk" target >/dev/null
echo content >source/foo
touch -d @1000000000 source/foo

for option in --delete --delete-before --delete-delay --delete-after; do
  rm -f target/*
  echo content >target/Foo
  touch -d @1000000000 target/Foo
  rsync -rt "$option" source/ target/
  echo "$option: $(ls target | paste -sd ' ')"
  case $option in
    --delete | --delete-before) [ "$(ls target)" = foo ] ;;
    *) [ -z "$(ls target)" ] ;;
  esac
done
echo 'as seen: deleted where it is deleted last'
