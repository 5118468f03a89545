#!/bin/sh
# bun install --registry does not change where the packages of a bun.lockb come from. Those of a bun.lock come from that registry.
#
# Guess: the registry of the command line is asked for each package, as that of npm is (replace-registry-host), so behind a mirror
# it is enough to name the mirror.
# Seen: Bun 1.4.4: bun.lockb has the address of each package, at npm's registry, too, and that one is fetched; the registry that was named is
# asked for nothing. bun.lock leaves out the addresses at npm's registry. `bun install --frozen-lockfile --save-text-lockfile
# --lockfile-only` makes the one of the other, with the same versions and checksums.
# Fails if the named registry is asked with bun.lockb.
set -eu
work=$(mktemp -d)
trap 'kill $server 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"
cat >empty-registry.mjs <<'EOF'
import { appendFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
const server = createServer((asked, answer) => {
  appendFileSync('asked', `${asked.url}\n`);
  answer.writeHead(404).end();
});
server.listen(0, '127.0.0.1', () => writeFileSync('port', String(server.address().port)));
EOF
: >asked
bun empty-registry.mjs &
server=$!
until [ -s port ]; do sleep 0.1; done

bun --version
echo '{"dependencies": {"is-number": "7.0.0"}}' >package.json
printf '[install]\nsaveTextLockfile = false\n' >bunfig.toml
install() {
  rm -rf node_modules cache
  BUN_INSTALL_CACHE_DIR=$work/cache bun install --silent --frozen-lockfile --registry "http://127.0.0.1:$(cat port)"
}
BUN_INSTALL_CACHE_DIR=$work/cache bun install --silent
[ -e bun.lockb ] && [ ! -e bun.lock ]
install
[ -e node_modules/is-number/package.json ] && [ ! -s asked ]
echo 'bun.lockb: the package is there, the registry was not asked'

bun install --silent --frozen-lockfile --save-text-lockfile --lockfile-only
[ -e bun.lock ]
if install; then exit 1; fi
cat asked
[ "$(sort -u asked)" = /is-number/-/is-number-7.0.0.tgz ]
echo 'as seen: with bun.lock the registry that was named is asked, and has nothing'
