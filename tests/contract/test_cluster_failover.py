"""A primary of a cluster dies or freezes: its replica is followed, and the other primaries' chats do not wait."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from shared.commands import Commands
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Retention
from shared.redis import command_link, resolver
from shared.slots import slot_of
from tests.support.log import append, ending, payloads, started, text
from tests.support.redis_cluster import RedisCluster, ask, cluster_binaries, running_cluster
from tests.support.redis_process import RedisProcess
from tests.support.wait import wait_until

WITHIN_S = 15.0


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """Three primaries, the first with a replica."""
    with running_cluster(cluster_binaries()[0], replicas=1) as cluster:
        yield cluster


@pytest.fixture
async def link(cluster: RedisCluster) -> AsyncIterator[Commands]:
    """A link to the cluster."""
    link = command_link(cluster.url, name="failover")
    await link.open(wait_s=5)
    yield link
    await link.close()


def chat_of(cluster: RedisCluster, ref: MessageRef, node: RedisProcess) -> MessageRef:
    """Return a message whose chat is the node's."""
    refs = (replace(ref, chat_id=f"{ref.chat_id}-{n}") for n in count())
    return next(ref for ref in refs if cluster.owner(slot_of(log_keys(ref).meta)) is node)


def waits(node: RedisProcess) -> int:
    """Return how often the node was asked to WAIT."""
    found = re.search(rb"cmdstat_wait:calls=(\d+)", ask(node, "INFO", "commandstats"))
    return int(found[1]) if found else 0


async def test_a_start_waits_for_the_replica_of_its_own_primary(
    cluster: RedisCluster, link: Commands, ref: MessageRef
) -> None:
    log = Log(link, Retention(), replicas=1)
    hit, spared = [await asyncio.to_thread(chat_of, cluster, ref, node) for node in cluster.primaries[:2]]
    own = await started(log, hit)
    assert [waits(node) for node in cluster.primaries] == [2, 0, 0]
    assert (await log.decide(own, ending())).status == "ok"
    await started(log, spared)  # in vain, as it has none; and the claim does not try again so soon
    assert [waits(node) for node in cluster.primaries] == [3, 1, 0]


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_replica_takes_over(cluster: RedisCluster, link: Commands, ref: MessageRef, how: str) -> None:
    first, second, _ = cluster.primaries
    log = Log(link, Retention(), replicas=1)
    hit, spared = [await asyncio.to_thread(chat_of, cluster, ref, node) for node in (first, second)]
    own, other = await started(log, hit), await started(Log(link, Retention()), spared)
    assert (await append(log, own, 3, "0")).status == "ok"
    assert await link.lanes(log_keys(hit).meta)[0].call("WAIT", 1, 5000) == 1
    await asyncio.to_thread(first.kill if how == "killed" else first.pause)

    async def go_on() -> None:
        reply = await log.append(own, 4, [text("1")], lease_ms=60_000, renew_ttl=False, deadline_s=WITHIN_S)
        assert reply.status == "ok"

    going_on = asyncio.create_task(go_on())
    for n in range(20):
        async with asyncio.timeout(2):
            assert (await append(log, other, 3 + n, str(n))).status == "ok"
    await link.call("PING", deadline_s=3)
    await going_on
    assert (await payloads(log, hit))[2:] == [text("0"), text("1")]
    assert ask(cluster.replicas[0], "ROLE")[0] == b"master"
    await wait_until(lambda: link.up)
    assert len(await link.everywhere("PING")) == 3


async def test_a_subscription_moves_to_another_node(cluster: RedisCluster) -> None:
    heard: list[Any] = []
    listener = Link(
        resolver(cluster.url),
        name="listener",
        on_push=heard.append,
        on_up=lambda: listener.post("SUBSCRIBE", "channel"),
    )
    await listener.open(wait_s=5)
    try:
        await wait_until(lambda: heard)
        node = await asyncio.to_thread(_listened_to, cluster.nodes)
        await asyncio.to_thread(node.kill)
        await wait_until(lambda: len(heard) == 2, what="subscribed again")
        rest = [other for other in cluster.nodes if other is not node]
        chosen = await asyncio.to_thread(_listened_to, rest)
        speaker = next(other for other in rest if other is not chosen)
        await asyncio.to_thread(ask, speaker, "PUBLISH", "channel", "x")
        await wait_until(lambda: heard[-1] == [b"message", b"channel", b"x"])
    finally:
        await listener.close()


def _listened_to(nodes: list[RedisProcess]) -> RedisProcess:
    return next(node for node in nodes if ask(node, "PUBSUB", "CHANNELS"))
