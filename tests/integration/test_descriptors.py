"""File descriptors: a service takes as many as it needs, whatever it was started with, and says if it may not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import ASK
from tests.support.ports import free_port
from tests.support.processes import ProcessGroup, ServerProcess, chat_model, http_get, write_models

pytestmark = pytest.mark.timeout(120)
FEW = 64
"""What a process starts with. Container runtimes and shells give 1024, and leave it to the process to ask for more."""
EVENT = "fewer file descriptors than this may need"


@pytest.fixture
async def group() -> AsyncIterator[ProcessGroup]:
    async with ProcessGroup() as group:
        yield group


async def spawn(group: ProcessGroup, name: str, redis_url: str, folder: Path, most: int, **env: Any) -> ServerProcess:
    """Start a service that has few descriptors and may have `most`; return it once it is ready."""
    models = folder / "models.toml"
    write_models(models, [chat_model(9)])
    port = free_port()
    ours = {"TAILRACE_REDIS_URL": redis_url, "TAILRACE_UPSTREAMS_FILE": models}
    ours |= {"TAILRACE_PORT": port, "TAILRACE_WORKER_HEALTH_PORT": port, **env}
    script = f'ulimit -Sn {FEW} && ulimit -Hn {most} && exec "$0" -m {name}'
    process = await group.spawn(name, port, ("-c", script, sys.executable), ours, program="/bin/sh")
    await process.wait_ready("/readyz")
    return process


def complaints(process: ServerProcess) -> list[tuple[int, int]]:
    return [(line["needed"], line["allowed"]) for line in process.log_lines() if line["event"] == EVENT]


async def test_a_gateway_has_room_for_more_viewers_than_the_descriptors_it_was_started_with(
    group: ProcessGroup, redis_url: str, tmp_path: Path
) -> None:
    gateway = await spawn(group, "gateway", redis_url, tmp_path, 2000, TAILRACE_MAX_VIEWERS=1000)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
        assert (await client.post("/chats/c/messages", json={**ASK, "message_id": "m"})).status_code == 202
    async with AsyncExitStack() as stack, asyncio.timeout(20):
        for _ in range(2 * FEW):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            stack.callback(writer.close)
            writer.write(b"GET /chats/c/messages/m/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    assert complaints(gateway) == []


async def test_a_gateway_that_may_not_have_them_says_so(group: ProcessGroup, redis_url: str, tmp_path: Path) -> None:
    gateway = await spawn(group, "gateway", redis_url, tmp_path, 500, TAILRACE_MAX_VIEWERS=1000)
    ((needed, allowed),) = complaints(gateway)
    assert needed > 1000
    assert allowed == 500


async def test_a_worker_has_room_for_a_call_in_each_slot(group: ProcessGroup, redis_url: str, tmp_path: Path) -> None:
    worker = await spawn(group, "worker", redis_url, tmp_path, 4000, TAILRACE_WORKER_SLOTS=1000)
    _, metrics = await http_get(worker.port, "/metrics")
    (line,) = [line for line in metrics.decode().splitlines() if line.startswith("process_max_fds ")]
    assert float(line.split()[1]) > 1000
    assert complaints(worker) == []
