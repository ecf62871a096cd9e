#!/bin/sh
# Brings the virtual environment to what requirements.lock says: venv.sh FOLDER [PYTHON]
# An environment that works is brought up to date in place, since something may be running from it.
set -eu
cd "$(dirname "$0")/.."
venv=$1
python=${2:-}
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

if [ -z "$python" ]; then
    for each in python3.11 python3.12 python3.13 python3.14 python3 python; do
        # Running it is the test: a name on PATH may be a stub that only says how to install it.
        if "$each" -c "$new_enough" >/dev/null 2>&1; then python=$each; break; fi
    done
elif ! "$python" -c "$new_enough" >/dev/null 2>&1; then
    echo "$python is not Python 3.11 or newer." >&2
    exit 1
fi
if [ -z "$python" ]; then
    echo 'Tailrace needs Python 3.11 or newer, and none was found on PATH.' >&2
    echo 'Install one, or name it: make PYTHON=/path/to/python3 run' >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python cannot make virtual environments (Debian: apt-get install python3-venv)." >&2
    exit 1
fi

echo "Preparing $venv with $("$python" --version); the first time takes a minute."
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
# The lock is whole. Left to resolve it anew, pip takes the newest of what something asks for with an extra, unlocked.
pip install --require-hashes --no-deps -r requirements.lock
# The build backend is in the lock too, so this step needs no download.
pip install --no-deps --no-build-isolation -e .
cp requirements.lock "$venv/.locked"
