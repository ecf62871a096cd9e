"""The log on a cluster of three: every operation finds its node, and what has no key is done on all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from shared.commands import Commands
from shared.dispatch import Dispatcher
from shared.errors import Unavailable, UnsafeRedis
from shared.ids import MessageRef
from shared.link import Link
from shared.log.ending import end_unowned
from shared.log.log import Log
from shared.log.types import Ownership, Retention
from shared.redis import check_redis, command_link, resolver
from shared.slots import slot_of
from tests.support.log import (
    ODD,
    Listener,
    append,
    created,
    ending,
    eventful,
    extend,
    payloads,
    seen,
    started,
    text,
)
from tests.support.redis_cluster import RedisCluster, ask, cluster_binaries, cluster_name, running_cluster
from tests.support.wait import wait_until

KEYS = (
    "a",
    "tr:due",
    "foo{}{bar}",
    "foo{{bar}}zap",
    "foo{bar}{zap}",
    "{bar",
    "}{",
    "}{a}",
    "{}",
    "💬{ü}x",
    "tr:{a/b}:c",
)


@pytest.fixture(scope="module", params=cluster_binaries(), ids=cluster_name)
def cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """Three primaries, of each version that is here."""
    with running_cluster(request.param) as cluster:
        yield cluster


@pytest.fixture
async def link(cluster: RedisCluster) -> AsyncIterator[Commands]:
    """A link to the emptied cluster."""
    await asyncio.to_thread(cluster.flush)
    link = command_link(cluster.url, name="cluster")
    await link.open(wait_s=5)
    yield link
    await link.close()


@pytest.fixture
def refs(ref: MessageRef) -> list[MessageRef]:
    """Messages in twelve chats: for no node to have one is as good as impossible."""
    return [replace(ref, chat_id=f"{ref.chat_id}-{n}") for n in range(12)]


async def live(log: Log, refs: list[MessageRef]) -> list[Ownership]:
    return list(await asyncio.gather(*(started(log, ref) for ref in refs)))


@pytest.mark.parametrize("key", KEYS)
async def test_a_key_has_the_slot_that_redis_says(cluster: RedisCluster, key: str) -> None:
    assert ask(cluster.nodes[0], "CLUSTER", "KEYSLOT", key) == slot_of(key)


async def test_chats_are_spread_and_each_is_whole(
    link: Commands, log: Log, refs: list[MessageRef], cluster: RedisCluster
) -> None:
    owners = await live(log, refs)
    for n in range(3, 8):
        replies = await asyncio.gather(*(append(log, own, n, str(n)) for own in owners))
        assert {reply.status for reply in replies} == {"ok"}
    await asyncio.gather(*(log.finish(own, 8, ending()) for own in owners))
    for own in owners:
        assert (await payloads(log, own.ref))[2:7] == [text(str(n)) for n in range(3, 8)]
        assert (await seen(log, own.ref)).state == "done"
    assert all(ask(node, "DBSIZE") > 0 for node in cluster.primaries)


async def test_a_replica_has_one_connection_to_each_node(link: Commands, log: Log, refs: list[MessageRef]) -> None:
    await live(log, refs)
    assert (link.up, link.stats.connects, link.stats.losses) == (True, 3, 0)
    assert link.stats.commands >= 24


async def test_no_operation_needs_a_second_slot(link: Commands, log: Log) -> None:
    ref = (await eventful(log, link, ODD)).ref
    assert (await end_unowned(log, Dispatcher(link), await seen(log, ref), "aborted", None)).status == "ok"
    await log.tell(ref)
    assert await log.delete(ref)
    assert await log.tombstone(ref) == "ann"
    assert await log.active(ref.tenant, ref.chat_id) is None


async def test_logs_of_all_nodes_are_extended_at_once(link: Commands, log: Log, refs: list[MessageRef]) -> None:
    owners = await live(log, refs)
    assert await asyncio.gather(*(extend(log, own, 2, "a") for own in owners)) == [True] * len(owners)
    for own in owners:
        assert (await payloads(log, own.ref))[2:] == [text("a")]


async def test_appointments_of_all_chats_are_kept(link: Commands, log: Log, refs: list[MessageRef]) -> None:
    await asyncio.gather(*(log.watch(ref, 0) for ref in refs))
    await log.unwatch(refs[0])
    assert sorted(ref.chat_id for ref in await log.overdue(100, 60_000)) == sorted(ref.chat_id for ref in refs[1:])
    assert await log.overdue(100, 0) == []


@pytest.mark.parametrize("count", [1, 1000])
async def test_a_sweep_looks_at_every_primary(link: Commands, log: Log, refs: list[MessageRef], count: int) -> None:
    owners = await live(log, refs)
    await log.finish(owners[0], 3, ending())
    found: list[MessageRef] = []
    position, steps = "0", 0
    while steps == 0 or position != "0":
        position, living = await log.sweep(position, count)
        found += living
        steps += 1
    assert {ref.chat_id for ref in found} == {ref.chat_id for ref in refs[1:]}
    assert steps >= 3
    assert await log.take_sweep(60_000)
    assert not await log.take_sweep(60_000)


async def test_a_sweep_goes_on_behind_a_primary_that_is_gone(link: Commands, log: Log, refs: list[MessageRef]) -> None:
    await live(log, refs)
    places = sorted(await link.everywhere("PING"))
    assert await log.sweep("17@zzz:1") == ("0", [])
    position, _ = await log.sweep("17@0.0.0.0:1", 10_000)
    assert position == f"0@{places[1]}"  # the first of all was looked through, from its beginning


async def test_one_subscription_hears_every_node(link: Commands, refs: list[MessageRef], cluster: RedisCluster) -> None:
    async with Listener(cluster.url, "channel") as listener:
        for ref in refs:
            await link.script(
                "return redis.call('PUBLISH', 'channel', KEYS[1])", (ref.chat_id,), (), deadline_s=5
            )  # fmt: skip
        said = {ref.chat_id.encode() for ref in refs}
        await wait_until(lambda: _heard_all(listener, said))


async def _heard_all(listener: Listener, said: set[bytes]) -> bool:
    return set(await listener.heard()) == said


async def test_every_primary_is_checked(link: Commands, cluster: RedisCluster) -> None:
    await check_redis(link)
    for node in cluster.primaries:
        ask(node, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(UnsafeRedis, match=rf"127\.0\.0\.1:{node.port} has maxmemory-policy allkeys-lru"):
                await check_redis(link)
        finally:
            ask(node, "CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_one_node_of_a_cluster_is_not_taken_for_all(cluster: RedisCluster) -> None:
    link = Link(resolver(cluster.primaries[1].url), name="one")
    await link.open(wait_s=5)
    try:
        with pytest.raises(UnsafeRedis, match="cluster://"):
            await check_redis(link)
    finally:
        await link.close()


async def test_a_seed_that_is_away_is_passed_over(cluster: RedisCluster) -> None:
    link = command_link(f"cluster://127.0.0.1:1,127.0.0.1:{cluster.nodes[2].port}", name="seeds")
    try:
        await link.open(wait_s=5)
        assert len(await link.everywhere("PING")) == 3
    finally:
        await link.close()


async def test_after_close_nothing_is_answered(cluster: RedisCluster) -> None:
    link = command_link(cluster.url, name="closed")
    await link.open(wait_s=5)
    await link.close()
    await link.close()
    with pytest.raises(Unavailable):
        await link.call("GET", "a", deadline_s=0.1)
    with pytest.raises(Unavailable):
        await link.everywhere("PING")
    assert not [task for task in asyncio.all_tasks() if task.get_name() in ("link-closed", "map-closed")]


async def test_an_error_of_the_command_is_the_callers(link: Commands, ref: MessageRef) -> None:
    await link.call("SET", "text", "x")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await link.call("XLEN", "text")
    assert link.stats.losses == 0
    await created(Log(link, Retention()), ref)
