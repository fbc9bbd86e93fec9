#!/usr/bin/env bash
# Generates gen/go and gen/ts from proto/, from nothing, so that what is no
# longer in a schema is no longer in gen/ either.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf gen/go/tcmanager gen/ts/tcmanager gen/ts/buf
node_modules/.bin/buf generate
