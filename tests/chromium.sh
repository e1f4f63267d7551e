#!/bin/sh
# Make sure of a Chromium for the browser tests: install it where that is ours to do, else say by name what is missing.
set -eu

for name in chromium chromium-browser google-chrome google-chrome-stable; do
  if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]; then exit 0; fi

if [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then
  echo "==> Installing Chromium for the browser tests (apt-get install chromium)"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium >/dev/null
  exit 0
fi

echo "The browser tests need Chromium or Google Chrome, and none was found." >&2
echo "  Debian:  sudo apt-get install chromium" >&2
echo "  Ubuntu:  sudo snap install chromium" >&2
echo "  macOS:   brew install --cask google-chrome" >&2
exit 1
