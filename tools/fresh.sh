#!/usr/bin/env bash
# Fails if generating would change anything in gen/.
set -euo pipefail
cd "$(dirname "$0")/.."
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
cp -r gen "$before/"
tools/generate.sh
if ! diff -r --brief --exclude=node_modules "$before/gen" gen; then
  echo "gen/ is stale: it was generated again just now; look at the difference and commit it" >&2
  exit 1
fi
