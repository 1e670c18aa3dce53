#!/usr/bin/env bash
# Installs Chromium for the browser tests: keeps one that exists, else Debian's package if root, else Playwright's.
set -euo pipefail
bin=${1:?usage: install_browser.sh VENV_BIN}
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing Chromium from Debian packages"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu fonts-noto-color-emoji >/dev/null
else
  "$bin/playwright" install chromium
fi
