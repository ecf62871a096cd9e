"""The worker process as a whole: what stops its start, and what it does when a part of it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import worker.main
from shared.models import Models, ModelSpec
from shared.tasks import end_tasks
from tests.support.ports import free_port
from tests.support.processes import http_status
from tests.support.redis import RedisServer
from tests.support.wait import wait_until
from worker.main import WorkerProcess
from worker.run import main
from worker.settings import WorkerSettings


async def test_a_worker_without_one_of_its_tasks_leaves(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = WorkerSettings(redis_url=redis_url, worker_drain_s=0)
    process = WorkerProcess(settings, Models([ModelSpec(name="m", base_url="http://127.0.0.1:1/v1")]))

    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(process.queue, "run", broken)
    with pytest.raises(RuntimeError, match="queue"):
        await asyncio.wait_for(process.run(), 20)


async def test_a_taken_health_port_is_said_at_the_start(redis_url: str) -> None:
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    settings = WorkerSettings(redis_url=redis_url, worker_health_port=port)
    process = WorkerProcess(settings, Models([ModelSpec(name="m", base_url="http://127.0.0.1:1/v1")]))
    with pytest.raises(OSError, match="address already in use"):
        await asyncio.wait_for(process.run(), 20)
    taken.close()
    await taken.wait_closed()


def test_a_wrong_setting_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILRACE_WORKER_SLOTS", "0")
    assert main() == 2
    told = capsys.readouterr().err
    assert told == "tailrace worker: TAILRACE_WORKER_SLOTS: Input should be greater than or equal to 1\n"


async def test_a_worker_that_waits_for_its_redis_is_alive(
    start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long: here every wait is too long, so that the first poll is the end of the grace."""
    monkeypatch.setattr(worker.main, "_HUNG_AFTER_S", -1.0)
    redis, port = start_redis(), free_port()
    await asyncio.to_thread(redis.kill)
    settings = WorkerSettings(redis_url=redis.url, worker_health_port=port, worker_drain_s=0)
    process = WorkerProcess(settings, Models([ModelSpec(name="m", base_url="http://127.0.0.1:1/v1")]))
    running = asyncio.create_task(process.run())
    await wait_until(lambda: _status(port, "/readyz", 503), what="the health port is not open")
    assert await http_status(port, "/healthz") == 200
    await asyncio.to_thread(redis.start)
    await wait_until(lambda: _status(port, "/readyz", 200), 20, what="the worker did not start")
    await wait_until(lambda: _status(port, "/healthz", 503), what="a worker that polls is judged by its polls")
    await end_tasks(running)


async def _status(port: int, path: str, wanted: int) -> bool:
    return await http_status(port, path) == wanted
