"""What a tail notices without waiting for silence: here a silent link is never looked at, so nothing else can heal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from gateway.live.hub import Hub, HubSettings
from shared.events import TextDelta, encode_event
from shared.log.log import Log
from shared.redis import resolver
from tests.support.redis import RedisServer
from tests.support.writer import LogWriter
from tests.unit.gateway.conftest import Gallery, Watching
from tests.unit.gateway.test_reading import append_unheard

NEVER_S = 100_000.0


@pytest.fixture
async def gallery(log: Log, redis_url: str) -> AsyncIterator[Gallery]:
    """Viewers whose hub does not believe in silence."""
    hub = Hub(log, resolver(redis_url), HubSettings(lease_s=NEVER_S, tick_s=0.05))
    await hub.open()
    async with AsyncExitStack() as stack:
        yield Gallery(hub, stack)
    await hub.close()


@pytest.fixture
async def missed(gallery: Gallery, writer: LogWriter, redis_server: RedisServer) -> Watching:
    """A live viewer whose link has just dropped an entry that says "unheard "."""
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "text-start" in watching.sink.text and watching.viewer.live)
    await writer.say("live ")  # whatever the tail still read from the log when it began, it has read by now
    await watching.sink.until(lambda: "live " in watching.sink.text)
    append_unheard(redis_server, writer, encode_event(TextDelta("t0", "unheard ")))
    return watching


async def test_a_batch_beyond_the_position_has_the_log_read(missed: Watching, writer: LogWriter) -> None:
    await writer.say("heard ")
    await missed.sink.until(lambda: "heard " in missed.sink.text and "unheard " in missed.sink.text)


async def test_a_heartbeat_beyond_the_position_has_the_log_read(missed: Watching, writer: LogWriter) -> None:
    await writer.heartbeat()
    await missed.sink.until(lambda: "unheard " in missed.sink.text)


async def test_a_new_subscription_has_the_log_read(missed: Watching, redis_server: RedisServer) -> None:
    with redis_server.admin() as client:
        client.client_kill_filter(_type="pubsub")
    await missed.sink.until(lambda: "unheard " in missed.sink.text)
