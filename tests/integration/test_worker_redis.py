"""A worker whose Redis goes away: for a moment, for longer than its lease, with its data or without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from deploy.scripted_model.text import full_text
from tests.integration.worker_kit import Kit, attempts, messages, open_kit
from tests.support.redis import RedisServer
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(120)
StartRedis = Callable[..., RedisServer]
SLOW = "[[rate=40 tokens=120 reasoning=0 markdown=0]] the river at night"
"""About three seconds of plain text."""


@pytest.fixture
def redis(start_redis: StartRedis) -> RedisServer:
    """A server of the test's own that keeps what it was told."""
    return start_redis(args=["--appendonly", "yes", "--appendfsync", "no"])


@pytest.fixture
async def kit(redis: RedisServer) -> AsyncIterator[Kit]:
    async with open_kit(redis.url) as kit:
        yield kit


async def closed(kit: Kit, ref: object) -> bool:
    return all(not call["open"] for call in await kit.calls(ref))  # type: ignore[arg-type]


async def test_a_restart_within_the_lease_is_not_noticed(kit: Kit, redis: RedisServer) -> None:
    await kit.worker(TAILRACE_LEASE_MS=30_000)
    ref = await kit.send(SLOW)
    await kit.wait_text(ref, 100)
    await asyncio.to_thread(redis.restart, keep_data=True)
    message = await kit.ended(ref)
    assert (message.state, message.text) == ("done", full_text(messages(SLOW)))
    assert attempts(await kit.events(ref)) == [(1, "first", "start")]
    # The queue's reading end lived through it too.
    assert (await kit.ended(await kit.send("[[rate=0 tokens=5]] x"))).state == "done"


async def test_a_restart_without_data_within_the_lease_is_made_good(kit: Kit, redis: RedisServer) -> None:
    worker = await kit.worker(TAILRACE_LEASE_MS=30_000)
    ref = await kit.send(SLOW)
    await kit.wait_text(ref, 100)
    before = (await kit.log.read_all(ref))[0]
    await asyncio.to_thread(redis.restart, keep_data=False)
    message = await kit.ended(ref)
    assert (message.state, message.text) == ("done", full_text(messages(SLOW)))
    assert (await kit.log.read_all(ref))[0] == before
    assert await kit.metric(worker, "tailrace_restores_total") == 1


async def test_an_outage_beyond_the_lease_closes_the_upstream_and_costs_an_attempt(
    kit: Kit, redis: RedisServer
) -> None:
    worker = await kit.worker()
    ref = await kit.send(SLOW)
    await kit.wait_text(ref, 100)
    redis.kill()
    await wait_until(lambda: closed(kit, ref), deadline_s=3.0, what="the upstream call closed by the end of the lease")
    await asyncio.to_thread(redis.restart, keep_data=True)
    message = await kit.ended(ref)
    assert (message.state, message.text) == ("done", full_text(messages(SLOW)))
    assert attempts(await kit.events(ref)) == [(1, "first", "start"), (2, "drain", "continue")]
    assert worker.running
