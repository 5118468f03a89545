#!/bin/sh
# rsync --prune-empty-dirs with --dirs and a list of names deletes the subdirectories of a listed directory, full or not, and exits with 0.
#
# Guess: --prune-empty-dirs leaves out directories that are empty; one in the source that holds a file is none, and stays on the target.
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): the receiver prunes what has no file below it in the list that it was sent (flist.c), and with
# --no-recursive --dirs nothing of a subdirectory is in that list. With "./" on the list and --delete, "full" is deleted on the target
# with the file that the source has there. The other way round, where the last file of a directory has gone and that directory is listed as
# "full/", it is pruned from the list itself, so that nothing is deleted in it. Without --prune-empty-dirs both are as one would guess.
# Fails if the subdirectory is there in the first case, or its file is gone in the second.
set -eu
apt-get install -y -qq rsync=3.5.0+ds1-0+deb12u1 >/dev/null 2>&1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
rsync --version | head -n 1

by_list() { # the name on the list, and more options
  name=$1
  shift
  printf '%s\0' "$name" | rsync -a --delete "$@" --no-recursive --dirs --files-from=- --from0 source/ target/
}

mkdir -p source/full
echo content >source/full/file
echo content >source/top
cp -a source target
by_list ./
[ -e target/full/file ]
by_list ./ --prune-empty-dirs
echo "./ on the list: $(ls target | paste -sd ' ')"
[ ! -e target/full ]

cp -a source/full target
rm source/full/file
by_list ./full/ --prune-empty-dirs
echo "./full/ on the list, and its file is gone from the source: $(ls target/full | paste -sd ' ')"
[ -e target/full/file ]
echo 'as seen: what is not looked into is deleted, and what has become empty is not'
