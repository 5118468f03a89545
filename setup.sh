#!/bin/sh
# Installs what is missing to run, build and test the two programs, says what it installs, and does nothing
# when all is there. Then runs the command that it is given, if any, with the pinned Bun on its PATH.
#
#   sh setup.sh [--with-test-tools] [COMMAND [ARGUMENT...]]
#
# --with-test-tools also installs Prometheus, Chromium, a Chinese font, Alertmanager and file systems that fail or are odd (on Debian and Ubuntu), and
# programs whose work is mirrored (Git, Vim, logrotate …), for tests that are skipped without them.
# Debian, Ubuntu and Alpine; Node.js with npm must be there. Where root is needed and sudo is not there,
# it says what to install.
set -eu
cd "$(dirname "$0")"
PATH="$PWD/.bun/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

say() { echo "setup: $*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; return; fi
  command -v sudo >/dev/null || { say "root is needed for: $*" >&2; exit 1; }
  sudo "$@"
}

missing_packages() {
  {
    for pair in $programs; do command -v "${pair%:*}" >/dev/null || echo "${pair#*:}"; done
    [ -z "$fuse" ] || [ -e /usr/lib/python3/dist-packages/fusepy.py ] || echo "$fuse"
    [ -z "$chinese" ] || fc-list :lang=zh 2>/dev/null | grep -q . || echo "$chinese"
  } | sort -u | tr '\n' ' '
}

install_packages() {
  say "installing the system packages $*"
  if command -v apt-get >/dev/null; then
    install_with_apt "$@"
  elif command -v apk >/dev/null; then
    as_root apk add --quiet --no-cache "$@"
  else
    say "neither apt-get nor apk is here; please install: $*" >&2
    exit 1
  fi
}

# Debian starts the services that it installs, unless policy-rc.d says no. A policy that is there already stays.
install_with_apt() {
  # shellcheck disable=SC2016 # root's shell is to expand it
  as_root sh -ec '
    policy=/usr/sbin/policy-rc.d
    if command -v invoke-rc.d >/dev/null && [ ! -e "$policy" ]; then
      trap "exit 130" INT TERM HUP
      trap "rm -f $policy" EXIT
      printf "#!/bin/sh\nexit 101\n" >"$policy"
      chmod 755 "$policy"
    fi
    apt-get update -qq
    for package; do
      shift
      if apt-cache show "$package" >/dev/null 2>&1; then set -- "$@" "$package"
      else echo "setup: this release has no $package; what needs it is left out" >&2; fi
    done
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  ' sh "$@"
}

# It also has them start at each boot. Only the programs are wanted, no service that nobody asked for.
disable_services() {
  command -v systemctl >/dev/null || return 0
  say "the packages' own services stay off; to have them: systemctl enable --now $*"
  for service in "$@"; do as_root systemctl disable --quiet --now "$service" >/dev/null 2>&1 || true; done
}

# For all users where nobody has a Bun yet and root asks, else for this directory alone.
install_bun() {
  if [ "$(id -u)" -eq 0 ] && ! command -v bun >/dev/null; then
    say "installing Bun $1"
    npm install --silent --global --allow-scripts=bun "bun@$1"
  else
    say "installing Bun $1 in $PWD/.bun"
    npm install --silent --global --allow-scripts=bun --prefix "$PWD/.bun" "bun@$1"
  fi
}

programs='rsync:rsync inotifywait:inotify-tools ssh:openssh-client ssh-keygen:openssh-client sshd:openssh-server'
chinese=
fuse=
if [ "${1:-}" = --with-test-tools ]; then
  shift
  programs="$programs prometheus:prometheus chromium:chromium fc-list:fontconfig"
  programs="$programs git:git logrotate:logrotate mkfs.ext4:e2fsprogs patch:patch sudo:sudo unzip:unzip zip:zip"
  chinese=fonts-wqy-microhei
  vim=vim.tiny:vim-tiny
  if command -v apk >/dev/null; then
    chinese=font-wqy-zenhei vim=vim:vim
  else
    fuse=python3-fusepy
    programs="$programs mount.exfat-fuse:exfat-fuse mkfs.exfat:exfatprogs prometheus-alertmanager:prometheus-alertmanager"
  fi
  programs="$programs $vim"
fi

command -v npm >/dev/null || { say "Node.js with npm is needed: https://nodejs.org" >&2; exit 1; }

packages=$(missing_packages)
if [ -n "$packages" ]; then
  # shellcheck disable=SC2086 # a list of words
  install_packages $packages
  case "$packages" in *openssh-server*) disable_services ssh.socket ssh.service ;; esac
  case "$packages" in *"prometheus "*) disable_services prometheus.service ;; esac
  case "$packages" in *alertmanager*) disable_services prometheus-alertmanager.service ;; esac
  case "$packages" in *logrotate*) disable_services logrotate.timer ;; esac
fi

bun_version=$(node -p 'require("./package.json").packageManager.split("@")[1]')
[ "$(bun --version 2>/dev/null || true)" = "$bun_version" ] || install_bun "$bun_version"

if ! cmp -s bun.lockb node_modules/.installed.lockb; then
  say "installing the packages of bun.lockb"
  bun install --frozen-lockfile
  cp bun.lockb node_modules/.installed.lockb
fi

[ $# -eq 0 ] || exec "$@"
