"""What viewers see of a Redis that is away for long: comment lines that say so, then a break, never a clean end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.live.hub import Hub, HubSettings
from gateway.protocols.native import NATIVE
from shared.log.log import Log
from shared.redis import resolver
from tests.support.redis import RedisServer
from tests.support.writer import LogWriter
from tests.unit.gateway.conftest import Gallery


@pytest.fixture
def redis(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """One to kill."""
    return start_redis()


@pytest.fixture
def redis_url(redis: RedisServer) -> str:
    return redis.url


@pytest.fixture
async def gallery(log: Log, redis_url: str) -> AsyncIterator[Gallery]:
    """Viewers whose hub bears an absence of two seconds."""
    hub = Hub(log, resolver(redis_url), HubSettings(tick_s=0.05, heartbeat_s=0.1, redis_gone_s=2.0))
    await hub.open()
    async with AsyncExitStack() as stack:
        yield Gallery(hub, stack)
    await hub.close()


async def test_viewers_are_told_and_then_sent_elsewhere(
    gallery: Gallery, writer: LogWriter, redis: RedisServer
) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: NATIVE.ping in watching.sink.writes)
    assert NATIVE.stalled not in watching.sink.writes
    await asyncio.to_thread(redis.kill)
    await watching.sink.until(lambda: NATIVE.stalled in watching.sink.writes)
    assert not watching.task.done()
    assert await watching.outcome() == "broken"
