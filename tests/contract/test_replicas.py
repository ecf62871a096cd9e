"""Waiting for replicas, with a real one: it covers what was written, and a missing replica costs little."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from shared.ids import MessageRef
from shared.link import Link
from shared.log.log import Log
from shared.log.types import Retention
from shared.redis import resolver
from tests.support.log import append, claim, created, ending
from tests.support.redis import RedisServer, server_binaries, skip_or_fail
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def pair(start_redis: Callable[..., RedisServer]) -> tuple[RedisServer, RedisServer]:
    """A primary and its replica, in step."""
    binaries = server_binaries()
    if not binaries:
        skip_or_fail("a replica needs a server binary: containers do not see each other's loopback")
    primary = start_redis(binary=binaries[0], args=["--repl-diskless-sync-delay", "0"])
    replica = start_redis(binary=binaries[0])
    with replica.admin() as client:
        client.replicaof("127.0.0.1", primary.url.rsplit(":", 1)[1].removesuffix("/0"))
    return primary, replica


@pytest.fixture
async def links(pair: tuple[RedisServer, RedisServer]) -> AsyncIterator[tuple[Link, Link]]:
    """Links to the primary and to the replica, which has caught up."""
    links = [Link(resolver(server.url), name="pair") for server in pair]
    for link in links:
        await link.open(wait_s=5)
    assert await wait_until(lambda: links[0].call("WAIT", 1, 100), deadline_s=15) == 1
    yield links[0], links[1]
    for link in links:
        await link.close()


async def test_starts_claims_ends_and_deletions_wait_for_the_replica(
    links: tuple[Link, Link], ref: MessageRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.log.replicas.PAUSE_S", 0.0)  # on a busy machine a replica may take its 200 ms
    log, copy = Log(links[0], Retention(), replicas=1), Log(links[1], Retention())

    async def waits() -> int:
        found = re.search(rb"cmdstat_wait:calls=(\d+)", await links[0].call("INFO", "commandstats"))
        assert found is not None
        return int(found[1])

    before = await waits()
    await created(log, ref)
    assert await waits() == before + 1
    own = await claim(log, ref)
    assert await waits() == before + 2
    await append(log, own, 3, "a")
    assert await waits() == before + 2
    await log.decide(own, ending("aborted"))
    assert await waits() == before + 3
    await log.finish(own, 4, ending())
    assert await waits() == before + 4

    async def copied(state: str) -> bool:
        meta = await copy.meta(ref)
        return meta is not None and meta.state == state

    await wait_until(lambda: copied("aborted"))
    # Whoever is told that it is forgotten shall not find it again after a failover.
    assert await log.delete(ref)
    assert await waits() == before + 5
    await wait_until(lambda: copied("deleted"))


async def test_a_silent_replica_delays_many_starts_once(
    pair: tuple[RedisServer, RedisServer],
    links: tuple[Link, Link],
    ref: MessageRef,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log(links[0], Retention(), replicas=1)
    await created(log, ref)  # the script is known from here on
    before = links[0].stats.commands
    pair[1].pause()
    try:
        with caplog.at_level(logging.WARNING):
            await asyncio.gather(*(created(log, replace(ref, chat_id=f"c{n}")) for n in range(50)))
    finally:
        pair[1].resume()
    # Fifty WAITs in a row would stop the connection for ten seconds, and every lease with it.
    assert 1 <= sum("replicas behind" in record.message for record in caplog.records) <= 2
    assert links[0].stats.commands - before <= 50 + 3
