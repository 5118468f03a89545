#!/bin/sh
# child.stdin.write(text, 'latin1') in Bun writes UTF-8: the encoding counts in end() only.
#
# Guess: write() and end() of a Writable take the same encoding (stream.Writable in Node.js), and end() of the same stream does.
# Seen: Bun 1.4.4, node:child_process: of '\xe4\xb8' as latin1, write() passes on c3 a4 c2 b8, and end() passes on e4 b8. Node.js 20
# passes on e4 b8 both times. Names of ASCII alone do not show it. A Buffer is passed on as it is.
# Fails if write() passes on the bytes that were meant.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/write.mjs" <<'EOF'
import { spawn } from 'node:child_process';
const child = spawn('od', ['-An', '-tx1'], { stdio: ['pipe', 'inherit', 'inherit'] });
if (process.argv[2] === 'end') child.stdin.end('\xe4\xb8', 'latin1');
else child.stdin.write('\xe4\xb8', 'latin1', () => child.stdin.end());
EOF
bun --version
for how in write end; do
  bun "$work/write.mjs" "$how" | tr -d ' ' | tee "$work/$how"
done
[ "$(cat "$work/write")" = c3a4c2b8 ]
[ "$(cat "$work/end")" = e4b8 ]
echo 'as seen: write() does not look at the encoding, end() does'
