"""Owns real child processes for tests: workers, gateways and scripted models on free ports, started, killed, awaited.

    async with ProcessGroup() as group:
        model = await group.model()
        worker = await group.worker(redis_url, models=[chat_model(model.port)], TAILRACE_LEASE_MS=2000)
        gateway = await group.gateway(redis_url, models=[chat_model(model.port)])

Every wait has a deadline; what is still running at the end is killed, by its own pid. A process that dies before it is
ready fails the test with its last output.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 40.0
STOPPED_WITHIN_S = 30.0
_ASK_EVERY_S = 0.03
PLAIN = os.environ.get("TEST_PLAIN") == "1"
"""Every fast path off, in gateways and workers alike: `TEST_PLAIN=1 make test`."""
_PLAIN: dict[str, object] = (
    {"TAILRACE_DIRECT_WRITES": "false", "TAILRACE_DIRECT_READS": "false", "TAILRACE_DIRECT_APPENDS": "false"}
    if PLAIN
    else {}
)


def chat_model(port: int, name: str = "scripted", **more: Any) -> dict[str, Any]:
    """Return a `[[models]]` table for the scripted model's Chat Completions API; `more` adds or replaces keys."""
    table = {
        "name": name,
        "kind": "chat_completions",
        "base_url": f"http://127.0.0.1:{port}/v1",
        "upstream_model": "scripted",
        "prefill": True,
    }
    return {**table, **more}


def write_models(path: Path, models: Sequence[Mapping[str, Any]]) -> None:
    """Write a models file. JSON strings, numbers, booleans and arrays are TOML as they stand; tables are inlined."""
    path.write_text("\n".join("[[models]]\n" + "".join(_lines(model)) for model in models), encoding="utf-8")


def _lines(model: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}\n" for key, value in model.items()]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


@dataclass(eq=False)
class ServerProcess:
    """One child. `port` is where it answers HTTP (a worker: its health port)."""

    name: str
    port: int
    process: asyncio.subprocess.Process
    output: Path
    env: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    async def wait_ready(self, path: str, within_s: float = READY_WITHIN_S) -> None:
        """Return once GET `path` answers 200; raise `AssertionError` with the output if it dies or stays silent."""
        try:
            async with asyncio.timeout(within_s):
                while await http_status(self.port, path) != 200:
                    if not self.running:
                        raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
                    await asyncio.sleep(_ASK_EVERY_S)
        except TimeoutError:
            raise AssertionError(f"{self.name} was not ready within {within_s:g} s:\n{self.tail()}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.running:
            os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        await self.wait()

    def freeze(self) -> None:
        """SIGSTOP: it stands still, its sockets stay open."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    async def stop(self, within_s: float = STOPPED_WITHIN_S) -> int:
        """SIGTERM; return the exit code."""
        self.signal(signal.SIGTERM)
        return await self.wait(within_s)

    async def wait(self, within_s: float = STOPPED_WITHIN_S) -> int:
        """Wait for its end and return the exit code; raise `AssertionError` at the deadline."""
        try:
            async with asyncio.timeout(within_s):
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} did not end within {within_s:g} s:\n{self.tail()}") from None

    def tail(self, lines: int = 30) -> str:
        """Return its last lines of output."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])

    def log_lines(self) -> list[dict[str, Any]]:
        """Return its own log, as far as its lines are JSON."""
        lines = self.output.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


class ProcessGroup:
    """Children of one test. Leaving the block kills what still runs."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tailrace-test-")
        self._children: list[ServerProcess] = []
        self._numbers = count(1)

    async def __aenter__(self) -> ProcessGroup:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.thaw()
            child.signal(signal.SIGKILL)
        try:
            for child in self._children:
                await child.wait()
        finally:
            self._folder.cleanup()

    async def model(self, **env: object) -> ServerProcess:
        """Start a scripted model and wait until it answers."""
        port = free_port()
        child = await self.spawn("model", port, ("-m", "deploy.scripted_model", "--port", str(port)), env)
        await child.wait_ready("/healthz")
        return child

    async def worker(
        self, redis_url: str, models: Sequence[Mapping[str, Any]], *, wait: bool = True, **env: object
    ) -> ServerProcess:
        """Start a worker; `env` adds settings (`TAILRACE_LEASE_MS=2000`)."""
        port = free_port()
        settings = {"TAILRACE_WORKER_HEALTH_HOST": "127.0.0.1", "TAILRACE_WORKER_HEALTH_PORT": port, **env}
        child = await self.spawn("worker", port, ("-m", "worker"), self._common(redis_url, models) | settings)
        if wait:
            await child.wait_ready("/readyz")
        return child

    async def gateway(
        self, redis_url: str, models: Sequence[Mapping[str, Any]], *, wait: bool = True, **env: object
    ) -> ServerProcess:
        """Start a gateway; `env` adds settings."""
        port = free_port()
        settings = {"TAILRACE_HOST": "127.0.0.1", "TAILRACE_PORT": port, **env}
        child = await self.spawn("gateway", port, ("-m", "gateway"), self._common(redis_url, models) | settings)
        if wait:
            await child.wait_ready("/readyz")
        return child

    async def spawn(
        self,
        name: str,
        port: int,
        arguments: Sequence[str],
        env: Mapping[str, object],
        *,
        program: str = sys.executable,
    ) -> ServerProcess:
        """Start `python <arguments>` with nothing of the caller's own settings in its environment."""
        number = next(self._numbers)
        output = Path(self._folder.name) / f"{number}-{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TAILRACE_", "OPENAI_"))}
        values = {key: str(value) for key, value in {**_PLAIN, **env}.items()}
        with output.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                program,
                *arguments,
                cwd=ROOT,
                env={**inherited, "PYTHONUNBUFFERED": "1", **values},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=asyncio.subprocess.STDOUT,
            )
        child = ServerProcess(f"{name}-{number}", port, process, output, values)
        self._children.append(child)
        return child

    def _common(self, redis_url: str, models: Sequence[Mapping[str, Any]]) -> dict[str, object]:
        path = Path(self._folder.name) / f"models-{next(self._numbers)}.toml"
        write_models(path, models)
        return {"TAILRACE_REDIS_URL": redis_url, "TAILRACE_UPSTREAMS_FILE": path}


async def http_status(port: int, path: str) -> int:
    """Return the status of a GET over loopback; 0 if there was no answer."""
    status, _ = await http_get(port, path)
    return status


async def http_get(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a GET over loopback; (0, b"") if there was no answer."""
    try:
        async with asyncio.timeout(5.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0, b""
    words = head.split(b" ", 2)
    return (int(words[1]), body) if len(words) > 1 and words[1].isdigit() else (0, b"")
