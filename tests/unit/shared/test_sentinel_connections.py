"""Through Sentinel: what asks it where the master is leaves no connection behind, however often it has to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

from shared.redis import connection_pool, resolver
from tests.chaos.stores import MASTER, Sentinel
from tests.support.ports import free_port
from tests.support.redis import server_binaries, skip_or_fail
from tests.support.wait import wait_until


@pytest.fixture
def sentinel() -> Iterator[Sentinel]:
    """A Sentinel whose master is away."""
    binaries = server_binaries()
    if not binaries:
        skip_or_fail("no redis-server to run a Sentinel with")
    sentinel = Sentinel(binaries[0], free_port(), down_after_ms=60_000)
    try:
        yield sentinel
    finally:
        sentinel.close()


def connections(sentinel: Sentinel) -> int:
    """Return how many it has besides the one that asks."""
    with redis.Redis(host="127.0.0.1", port=sentinel.port, socket_timeout=2) as client:
        return len(client.client_list()) - 1


async def test_a_pool_that_is_disconnected_leaves_its_sentinels_too(sentinel: Sentinel) -> None:
    await wait_until(lambda: sentinel.master())
    url = f"sentinel://127.0.0.1:{sentinel.port}/{MASTER}"
    before = await asyncio.to_thread(connections, sentinel)
    pool = connection_pool(url)
    with pytest.raises(redis.ConnectionError):
        await pool.get_connection()
    await pool.disconnect()
    await resolver(url)()
    await wait_until(lambda: connections(sentinel) <= before, what="a connection to the Sentinel is left open")
