#!/bin/sh
# Has the image be made from mirrors where the servers of Debian and npm are slow or filtered: rsync_inotify.dockerfile calls it.
# Without a mirror, all is as if it were not here.
#
#   APT_MIRROR=URL sh mirrors.sh apt [DIRECTORY]   rewrites the sources of apt in /etc/apt, or DIRECTORY
#   NPM_REGISTRY=URL sh mirrors.sh npm             installs the packages of bun.lockb that the programs need
set -eu

fail() {
  echo "$1: $2" >&2
  exit 1
}

# Prints an address without the slash at its end. What is let through means nothing to a shell, sed or apt's sources.
address() { # NAME VALUE
  case $2 in
    *@*) fail "$1" 'a user name or password would be in the history of the image: only an address without' ;;
    *[!A-Za-z0-9._~:/%-]*) fail "$1" "no address: '$2' has a character other than letters, digits and . _ ~ : / % -" ;;
    http://[A-Za-z0-9]* | https://[A-Za-z0-9]*) ;;
    *) fail "$1" "'$2' does not begin with http:// or https:// and the name of a host" ;;
  esac
  echo "${2%/}"
}

apt_sources() { # DIRECTORY
  [ -n "${APT_MIRROR:-}" ] || return 0
  mirror=$(address APT_MIRROR "$APT_MIRROR")
  mirror=${mirror%/debian} mirror=${mirror%/ubuntu}
  case $mirror in
    https:*) [ -e /etc/ssl/certs/ca-certificates.crt ] ||
      fail APT_MIRROR 'BASE_IMAGE has no certificates (ca-certificates) for https: write http://, apt checks signatures' ;;
  esac
  for file in "$1"/sources.list "$1"/sources.list.d/*.list "$1"/sources.list.d/*.sources; do
    [ ! -f "$file" ] || sed -i -E "
      s#https?://security\.debian\.org(/debian-security)?/?([[:space:]]|\$)#$mirror/debian-security\2#g
      s#https?://(deb|ftp\.[a-z]+|ftp|cdn-aws\.deb)\.debian\.org/#$mirror/#g
      s#https?://(([a-z]+\.)?archive|security|ports)\.ubuntu\.com/#$mirror/#g" "$file"
  done
  grep -qrF "$mirror/" "$1/sources.list" "$1/sources.list.d" 2>/dev/null ||
    fail APT_MIRROR "nothing in $1 of BASE_IMAGE names a server of Debian or Ubuntu"
}

# bun.lockb has the address of each package, which --registry does not change; bun.lock has none but their checksums.
npm_packages() {
  if [ -z "${NPM_REGISTRY:-}" ]; then
    exec bun install --frozen-lockfile --production
  fi
  registry=$(address NPM_REGISTRY "$NPM_REGISTRY")
  bun install --frozen-lockfile --save-text-lockfile --lockfile-only
  exec bun install --frozen-lockfile --production --registry "$registry"
}

case $1 in
  apt) apt_sources "${2:-/etc/apt}" ;;
  npm) npm_packages ;;
esac
