#!/usr/bin/env bash
# Makes sure that what the tests need of the system is there: a C compiler for
# the race detector, Chromium for the tests of the page, and PostgreSQL for those
# of the store on it, which start servers of their own. Missing ones are installed
# from Debian's packages if this user may; otherwise it says what to do.
set -euo pipefail
missing=()
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
command -v chromium >/dev/null || missing+=(chromium)
[ -x /usr/lib/postgresql/15/bin/initdb ] || missing+=(postgresql-15)
[ ${#missing[@]} -eq 0 ] && exit 0
echo "setup: installing ${missing[*]} from Debian's packages" >&2
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    echo "setup: this needs root; run: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo -n)
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
# The package of PostgreSQL would make a cluster and start it, which nobody here needs.
no_cluster=/etc/postgresql-common/createcluster.d/tcmanager.conf
if [[ " ${missing[*]} " == *" postgresql-15 "* ]]; then
  trap '"${as_root[@]}" rm -f "$no_cluster"' EXIT
  "${as_root[@]}" mkdir -p "${no_cluster%/*}"
  echo "create_main_cluster = false" | "${as_root[@]}" tee "$no_cluster" >/dev/null
fi
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
