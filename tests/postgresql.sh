#!/bin/sh
# Make sure of a PostgreSQL server for the store's tests: install it where that is ours to do, else say what is missing.
set -eu

for initdb in "$(command -v initdb || true)" /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb; do
  if [ -x "$initdb" ]; then exit 0; fi
done

if [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then
  echo "==> Installing PostgreSQL for the store's tests (apt-get install postgresql)"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends postgresql >/dev/null
  exit 0
fi

echo "There is no PostgreSQL server here: the tests that need one are skipped. To run them:" >&2
echo "  Debian, Ubuntu:  sudo apt-get install postgresql" >&2
echo "  Fedora:          sudo dnf install postgresql-server" >&2
echo "  macOS:           brew install postgresql@16" >&2
