"""The health port: the three paths, a probe that breaks off, something that is no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.ports import free_port
from tests.support.processes import http_get, http_status
from worker.health import HealthServer
from worker.metrics import Metrics


class State:
    wrong = ""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    port = free_port()
    server = HealthServer("127.0.0.1", port, alive=lambda: "", ready=lambda: State.wrong, metrics=Metrics().text)
    await server.open()
    yield port
    State.wrong = ""
    await server.close()


async def test_alive_ready_and_metrics(port: int) -> None:
    assert await http_status(port, "/healthz") == 200
    assert await http_status(port, "/readyz?verbose=1") == 200
    status, body = await http_get(port, "/metrics")
    assert status == 200
    assert b"tailrace_slots_used 0.0" in body
    for name in (b"process_resident_memory_bytes", b"tailrace_upstream_events_total", b"tailrace_append_seconds_count"):
        assert b"\n" + name + b" " in body
    assert await http_status(port, "/other") == 404


async def test_what_is_wrong_is_said_with_503(port: int) -> None:
    State.wrong = "draining"
    assert await http_get(port, "/readyz") == (503, b'{"status":"draining"}')
    assert await http_status(port, "/healthz") == 200


async def test_whoever_speaks_no_http_does_not_disturb_the_others(port: int) -> None:
    for raw in (b"", b"\x00\xff\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"x" * 100_000):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        writer.close()
    assert await http_status(port, "/healthz") == 200
