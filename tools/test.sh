#!/usr/bin/env bash
# Runs the tests: go, ts, e2e, or all of them. Go's own closing lines are the
# last ones of the Go part. TypeScript runs beside Go, since each leaves a core
# idle; the browser's tests run last and alone.
set -euo pipefail
cd "$(dirname "$0")/.."
part=${1:-all}

go_tests() { go test -race -timeout 20m ./...; }
ts_tests() {
  npm run test --workspace clients/ts --silent
  npm run test --workspace clients/web --silent
}
e2e_tests() { npm run test:e2e --workspace clients/web --silent; }

case "$part" in
  go) tools/setup.sh && go_tests ;;
  ts) ts_tests ;;
  e2e) tools/setup.sh && e2e_tests ;;
  all)
    tools/setup.sh
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    ts_tests >"$log" 2>&1 &
    ts=$!
    failed=0
    go_tests || failed=1
    wait "$ts" || failed=1
    cat "$log"
    e2e_tests || failed=1
    [ "$failed" -eq 0 ] && echo "all tests passed" || { echo "some tests failed" >&2; exit 1; }
    ;;
  *) echo "usage: tools/test.sh [go|ts|e2e|all]" >&2; exit 2 ;;
esac
