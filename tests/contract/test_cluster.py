"""Cluster mode: every script stays in its chat's slot. One node owns all slots, so only a crossing can fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Retention
from shared.redis import resolver
from tests.contract.conftest import MAJORS
from tests.support.log import append, claim, create, ending, extend, lose_everything, run_out, seen, segment_of
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
    ref = MessageRef("a{c", "}chat{💬}", "m}1")
    second = replace(ref, message_id="{x}2")
    await create(log, ref)
    own = await claim(log, ref)
    await append(log, own, 3, "a")
    assert await extend(log, own, 3, "b")
    assert (await log.checkpoint(own, 0, segment_of(await log.read_all(ref)))).status == "ok"
    await log.append(own, 4, (), lease_ms=60_000, renew_ttl=True, deadline_s=5)
    await log.decide(own, ending("done"))
    await create(log, second, policy="replace")
    await log.release(own)
    await log.force(await seen(log, ref), ending("aborted"))
    await create(log, replace(ref, message_id="3"), policy="parallel")
    own = await claim(log, second)
    backup = await log.backup(second)
    assert backup is not None
    entries = await log.read_all(second)
    await lose_everything(link)
    assert (await log.restore(own, backup, entries, lease_ms=1000, channel="w")).status == "ok"
    await run_out(link, second)
    await log.stop(second)
    assert (await log.finish(own, 3, ending("done"))).status == "ok"
    assert await log.delete(second)
    await log.watch(ref, 0)
    assert await log.overdue(1, 0) == [ref]


async def test_all_keys_of_a_chat_share_its_slot(link: Link) -> None:
    ref = MessageRef("a{c", "}chat{💬}", "m}1")
    keys = [*log_keys(ref).whole, *log_keys(replace(ref, message_id="{other}")).whole]
    assert len({await link.call("CLUSTER", "KEYSLOT", key) for key in keys}) == 1
    assert len(set(keys)) == 10  # two messages, one active pointer, one list of those in flight
