#!/bin/sh
# An rsync daemon drops the --fake-super that a client has it told by --remote-option, and says nothing.
#
# Guess: -M--fake-super has the other side keep owners and special modes in an extended attribute, whatever that side is, as the manual
# shows it for one over ssh; and a daemon that will not do so refuses it, as it refuses options under "refuse options".
# Seen: rsync 3.5.0+ds1-0+deb12u1 (Debian 12): a directory of mode 4711 has mode 711 and the attribute user.rsync.%stat where the other side
# is a command. At a daemon that runs as root it has mode 4711 and no attribute, with exit status 0 and not a word on either side. With
# "fake super = yes" in the module, the daemon does it by itself.
# Fails if the daemon keeps the attribute without its own setting, or refuses the option.
set -eu
apt-get install -y -qq rsync=3.5.0+ds1-0+deb12u1 attr >/dev/null 2>&1
[ "$(id -u)" = 0 ] || { echo "this needs root" >&2; exit 1; }
work=$(mktemp -d -p "${PLACE:-/var/tmp}")
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
rsync --version | head -n 1

mkdir -p source/directory command plain faking
chmod 4711 source/directory
for module in plain faking; do printf '[%s]\npath = %s/%s\nread only = no\nuid = 0\ngid = 0\n' "$module" "$work" "$module"; done >modules
{ printf 'port = 18731\naddress = 127.0.0.1\nlog file = %s/log\nuse chroot = no\n' "$work"; cat modules; echo 'fake super = yes'; } >rsyncd.conf
rsync --daemon --no-detach --config=rsyncd.conf &
daemon=$!
until grep -q 'listening on port' log 2>/dev/null; do sleep 0.1; done

# The rsync at the other side of this "remote shell" is one of this machine.
printf '#!/bin/sh\nshift\nexec "$@"\n' >here
chmod 755 here
rsync -a -M--fake-super -e ./here source/ host:"$work/command/" 2>&1 | tee said
rsync -a -M--fake-super source/ rsync://127.0.0.1:18731/plain/ 2>&1 | tee -a said
rsync -a source/ rsync://127.0.0.1:18731/faking/ 2>&1 | tee -a said

kept() { getfattr --only-values -n user.rsync.%stat "$1/directory" 2>/dev/null || echo none; }
for target in command plain faking; do
  echo "$target: mode $(stat -c %a "$target/directory"), attribute: $(kept "$target")"
done
[ ! -s said ]
! grep -i 'fake' log
[ "$(stat -c %a command/directory)" = 711 ] && [ "$(kept command)" != none ]
[ "$(stat -c %a plain/directory)" = 4711 ] && [ "$(kept plain)" = none ]
[ "$(stat -c %a faking/directory)" = 711 ] && [ "$(kept faking)" != none ]
echo 'as seen: the daemon drops the option'
