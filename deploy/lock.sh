#!/bin/sh
# Resolves pyproject.toml into the hash-locked requirement files: one for development (every extra, every platform and
# Python from 3.11), one for each image, one for building the wheel. Pins stay; `sh deploy/lock.sh --upgrade` moves them.
set -eu
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo 'uv is needed to lock: python3 -m pip install uv' >&2; exit 1; }
resolve() {
    uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate "$@"
}
resolve pyproject.toml --all-extras -o requirements.lock "$@"
# The images take their pins from the development lock, so tests and images never differ.
resolve pyproject.toml --extra gateway --constraint requirements.lock -o deploy/docker/requirements-gateway.lock
resolve pyproject.toml --extra worker --constraint requirements.lock -o deploy/docker/requirements-worker.lock
echo hatchling | resolve - --constraint requirements.lock -o deploy/docker/requirements-build.lock
