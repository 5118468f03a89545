#!/bin/sh
# What rsync-inotify is compared with: the plain shell loop, one rsync of the whole tree at an event, unless less than
# INTERVAL seconds have passed since the last one. With 0 it runs at every event and is as fast as it can be; with more
# it loses the last change of a burst, because nothing runs when the interval is over.
#
#   sh plain-loop.sh SOURCE TARGET SSH_COMMAND INTERVAL
set -u
source=$1 target=$2 RSYNC_RSH=$3 interval=$4
export RSYNC_RSH

mirror() {
  rsync -az --delete -- "$source" "$target"
  last=$(date +%s)
}

mirror
inotifywait -m -r -e create,modify,delete,moved_to,close_write -- "$source" | while read -r _; do
  if [ $(($(date +%s) - last)) -ge "$interval" ]; then mirror; fi
done
