#!/bin/sh
# What the benchmark needs beside the product, into .bench/: the peers' packages, the C programs; nginx's Nchan by apt if
# we are root. What cannot be had is said, and its rows are left out of the table.
set -eu
cd "$(dirname "$0")/../.."
python=${1:-python3}
mkdir -p .bench/node .bench/run
cp tests/bench/peers/package.json .bench/node/
if command -v npm >/dev/null; then
    (cd .bench/node && npm install --silent --no-audit --no-fund) || echo 'bench-setup: no Node peers (npm failed)' >&2
else
    echo 'bench-setup: no Node peers (npm is not installed)' >&2
fi
[ -x .bench/peers/bin/python ] || "$python" -m venv .bench/peers
.bench/peers/bin/pip install -q --disable-pip-version-check -r tests/bench/peers/requirements.txt
if [ ! -e /usr/lib/nginx/modules/ngx_nchan_module.so ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install -y -qq nginx-light libnginx-mod-nchan >/dev/null || echo 'bench-setup: no Nchan (apt failed)' >&2
    else
        echo 'bench-setup: no Nchan (needs root and apt)' >&2
    fi
fi
"$python" -c 'from tests.bench.rig import build; build()'
