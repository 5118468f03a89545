#!/bin/sh
# Builds what a release consists of, in dist/release/: both programs for each platform and once for a Bun that is there, what
# belongs to them on a host without containers, and SHA256SUMS over all of it.
#
#   bun run build:all [PLATFORM...]
#
# Bun fetches itself for the platforms that are not this one, from the npm registry. On x64 it needs no AVX2.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- linux-x64 linux-arm64 linux-x64-musl linux-arm64-musl

rm -rf dist/release
for platform in "$@"; do # each time NAME.js as well, which is the same for all
  TARGET=--target=bun-$platform SUFFIX=-$platform DIR=dist/release bun run --silent build
done
cp LICENSE THIRD_PARTY_NOTICES.txt dist/release/
for file in packaging/*.service packaging/*.env; do # GitHub puts a dot in the place of each @ and then has two files of one name
  cp "$file" "dist/release/$(basename "$file" | sed s/@/-tree/)"
done
cd dist/release
sha256sum -- * >SHA256SUMS
sha256sum --check --quiet SHA256SUMS
ls
