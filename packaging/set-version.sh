#!/bin/sh
# Takes the version of package.json to where it has to stand, too: each program is one file that can be copied to a host
# alone, so each carries it. `npm version X.Y.Z` runs this between its change of package.json and its commit and tag.
set -eu
cd "$(dirname "$0")/.."
version=$(node -p 'require("./package.json").version')

sed -i "s/^const VERSION = '.*';$/const VERSION = '$version';/" scripts/rsync-inotify.ts scripts/start-sshd.ts
grep -qF "## [$version]" CHANGELOG.md ||
  sed -i "s/^## \[Unreleased\]$/&\n\n## [$version] - $(date -u +%F)/" CHANGELOG.md
