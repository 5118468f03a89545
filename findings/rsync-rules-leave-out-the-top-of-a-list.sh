#!/bin/sh
# rsync's filter rules leave out the directory that a transfer starts at, if that is merely implied by names of --files-from.
#
# Guess: rules are about what is in the directory that is named as "source/", never about that itself: under "- *" its time and mode are
# mirrored all the same. So they are where names in it are listed, as without any rule.
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): without a list, and with "./" on it, which has all compared that is directly in it, too, the
# time of the top is mirrored under each of these rules. With the name of a file alone, it is not where a rule matches "." as a directory
# ("- *", "- /*", "-! /file"), although the file is let in by a rule before and is sent. A rule "+s /." in front has it mirrored again.
# Fails if the top is mirrored with the list under all of these rules, or is not with the rule in front.
set -eu
apt-get install -y -qq rsync=3.5.0+ds1-0+deb12u1 >/dev/null 2>&1
work=$(mktemp -d -p "${PLACE:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
cd "$work"
rsync --version | head -n 1

mkdir source
echo content >source/file
touch -d 2001-01-01 source

# Prints the year of the top once it was mirrored by a list of these names, or without one, under a rule behind "+ /file".
mirror() {
  names=$1
  shift
  rm -rf target
  mkdir target
  touch -d 2020-01-01 target
  if [ "$names" = none ]; then
    rsync -a "$@" source/ target/
  else
    echo "$names" | rsync -a "$@" --no-recursive --dirs --files-from=- source/ target/
  fi
  [ -s target/file ] || { echo 'file not sent'; return; }
  touch -r target seen # making the file changes the time of the top, which rsync sets at last
  date -r seen +%Y
}

mirrored='' missed=''
for rule in '- x' '- *' '- /*' '-! /file'; do
  set -- '--filter=+ /file' "--filter=$rule"
  line="no list: $(mirror none "$@"), ./: $(mirror ./ "$@"), ./file: $(mirror ./file "$@"), with +s /.: $(mirror ./file '--filter=+s /.' "$@")"
  echo "$rule   $line"
  case $line in
    'no list: 2001, ./: 2001, ./file: 2001, with +s /.: 2001') mirrored="$mirrored[$rule]" ;;
    'no list: 2001, ./: 2001, ./file: '*', with +s /.: 2001') missed="$missed[$rule]" ;;
    *) exit 1 ;;
  esac
done
[ "$mirrored" = '[- x]' ]
[ "$missed" = '[- *][- /*][-! /file]' ]
echo 'as seen: rules that match "." leave the top out'
