"""Cluster mode: every script stays in its chat's slot. One node owns all slots, so only a crossing can fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from shared.errors import UnsafeRedis
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Retention
from shared.redis import check_redis, resolver
from tests.contract.conftest import MAJORS
from tests.support.log import ODD, ending, eventful
from tests.support.redis import RedisServer, redis_of_major


# The oldest and the newest: a node takes two seconds to serve its slots.
@pytest.fixture(scope="module", params=MAJORS[::2], ids=lambda major: f"redis-{major}")
def cluster(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One node that owns all 16384 slots."""
    if request.param == "given":
        pytest.skip("a given Redis cannot be turned into a cluster")
    server = redis_of_major(int(request.param), args=["--cluster-enabled", "yes"])
    with server.admin() as client:
        client.execute_command("CLUSTER ADDSLOTS", *range(16384))
    yield server
    server.close()


@pytest.fixture
async def link(cluster: RedisServer) -> AsyncIterator[Link]:
    """A link to the node, once it serves."""
    link = Link(resolver(cluster.url), name="cluster")
    await link.open(wait_s=5)
    yield link
    await link.close()


async def test_no_operation_crosses_slots(link: Link) -> None:
    log = Log(link, Retention())
    own = await eventful(log, link, ODD)
    assert (await log.finish(own, 3, ending("done"))).status == "ok"
    assert await log.delete(own.ref)
    await log.watch(ODD, 0)
    assert await log.overdue(1, 0) == [ODD]


async def test_a_cluster_of_one_node_is_used_as_one_or_not_at_all(link: Link) -> None:
    with pytest.raises(UnsafeRedis, match="cluster://"):
        await check_redis(link)


async def test_all_keys_of_a_chat_share_its_slot(link: Link) -> None:
    keys = [*log_keys(ODD).whole, *log_keys(replace(ODD, message_id="{other}")).whole]
    assert len({await link.call("CLUSTER", "KEYSLOT", key) for key in keys}) == 1
    assert len(set(keys)) == 10  # two messages, one active pointer, one list of those in flight
