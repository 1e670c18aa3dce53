#!/usr/bin/env bash
# Installs PostgreSQL for `featlas up` and its tests: keeps one that exists, else Debian's package if root.
set -euo pipefail
if command -v postgres >/dev/null 2>&1 || compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing PostgreSQL from Debian packages"
  apt-get update -qq
  mkdir -p /etc/postgresql-common
  echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
else
  echo "PostgreSQL is not installed, so its tests will fail: install it with the package manager of this machine" >&2
fi
