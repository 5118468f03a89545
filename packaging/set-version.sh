#!/bin/sh
# Gives what CHANGELOG.md says of the next version the version of package.json, which alone holds it otherwise.
# `npm version X.Y.Z` runs this between its change of package.json and its commit and tag.
set -eu
cd "$(dirname "$0")/.."
version=$(node -p 'require("./package.json").version')

grep -qF "## [$version]" CHANGELOG.md ||
  sed -i "s/^## \[Unreleased\]$/&\n\n## [$version] - $(date -u +%F)/" CHANGELOG.md
