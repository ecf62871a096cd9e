"""The container engine of this machine: is there one with what the tests need, and running its commands."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping

import pytest

IMAGES = ("python:3.12-slim", "redis:7", "nginx:1.27-alpine")


def require_engine() -> None:
    """Skip, saying what is missing; where `TAILRACE_CI_STRICT=1` promises an engine, fail instead."""
    missing = _missing()
    if missing is None:
        return
    if os.environ.get("TAILRACE_CI_STRICT") == "1":
        pytest.fail(f"TAILRACE_CI_STRICT=1, but {missing}")
    pytest.skip(missing)


def _missing() -> str | None:
    for argv, what in (
        (["docker", "info"], "no container engine answers `docker info`"),
        (["docker", "compose", "version"], "the engine's client has no `docker compose`"),
        *((["docker", "image", "inspect", image], f"image {image} is not here") for image in IMAGES),
    ):
        try:
            done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return what
        if done.returncode != 0:
            return what
    return None


async def run(*argv: str, within_s: float = 60, env: Mapping[str, str] | None = None, cwd: str | None = None) -> str:
    """Run a command to its end and return its output; a failure fails the test with it."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(within_s):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"{' '.join(argv)}: not done within {within_s} s") from None
    assert process.returncode == 0, f"{' '.join(argv)}:\n{out.decode()[-2000:]}\n{err.decode()[-4000:]}"
    return out.decode()
