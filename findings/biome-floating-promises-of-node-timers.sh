#!/bin/sh
# Biome's noFloatingPromises reports a floating fetch() and a floating call of an async function of the project, but not one of
# node:timers/promises, although the types of Node.js are installed.
#
# Guess: `sleep(5);` with `import { setTimeout as sleep } from 'node:timers/promises'` is the textbook case of a floating promise;
# the rule is said to follow types, and @types/node says that it returns one.
# Seen: @biomejs/biome 2.6.8 with @types/node 26.6.6: of three floating calls in one file, two errors, for the function that is
# declared in the file and for fetch. The import from node:timers/promises passes: a clean run says nothing about such calls.
# Fails if another number of them is reported.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

npm init -y >/dev/null
npm install --silent --no-audit --no-fund @biomejs/biome@2.6.8 @types/node@26.6.6
cat >biome.json <<'EOF'
{ "linter": { "rules": { "recommended": false, "nursery": { "noFloatingPromises": "error" } } }, "formatter": { "enabled": false }, "assist": { "enabled": false } }
EOF
cat >tsconfig.json <<'EOF'
{ "compilerOptions": { "types": ["node"], "strict": true, "module": "Preserve", "target": "ESNext" } }
EOF
cat >example.ts <<'EOF'
import { setTimeout as sleep } from 'node:timers/promises';

async function own(): Promise<number> {
  return 1;
}

own();
sleep(5);
fetch('http://localhost/');
EOF
npx biome --version
npx biome lint example.ts >report 2>&1 || true
grep -E 'example\.ts:[0-9]+' report
[ "$(grep -oE 'example\.ts:[0-9]+' report | tr '\n' ' ')" = 'example.ts:7 example.ts:9 ' ]
echo 'as seen: the floating sleep in line 8 is not reported'
