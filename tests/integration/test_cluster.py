"""The whole road on a Redis Cluster of three, the queue on a server of its own: read, cut, resume, stop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio

from tests.support.gateway import sse_types
from tests.support.processes import chat_model
from tests.support.redis import RedisServer, make_redis
from tests.support.redis_cluster import RedisCluster, ask, cluster_binaries, running_cluster
from tests.support.road import Road, open_road

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with running_cluster(cluster_binaries()[0]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def queue() -> Iterator[RedisServer]:
    server = make_redis()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def road(cluster: RedisCluster, queue: RedisServer) -> AsyncIterator[Road]:
    async with open_road(cluster.url, TAILRACE_QUEUE_REDIS_URL=queue.url) as opened:
        yield opened


async def events(url: str, after: str | None = None, most: int | None = None) -> list[str]:
    """Return up to `most` events of a stream, then cut it; all of them if None."""
    found: list[str] = []
    block: list[str] = []
    headers = {"Last-Event-ID": after} if after else {}
    async with httpx.AsyncClient(timeout=20) as client, client.stream("GET", url, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line and not line.startswith((":", "retry:")):
                block.append(line)
            elif not line and block:
                found.append("\n".join(block) + "\n\n")
                block = []
            if most is not None and len(found) >= most:
                break
    return found


def event_id(event: str) -> str:
    return event.split("\n", 1)[0].removeprefix("id: ")


@pytest.mark.parametrize("chat", range(6))  # on more than one node
async def test_cut_while_it_is_written_and_resumed_on_the_other_gateway(road: Road, chat: int) -> None:
    path = (await road.start(f"cluster-{chat}", "Tell me about weirs [[tokens=40 rate=80]]"))["stream_url"]
    head = await events(road.gateway(chat) + path, most=12)
    tail = await events(road.gateway(chat + 1) + path, after=event_id(head[-1]))
    assert sse_types(tail[-1]) == ["end"]
    assert head + tail == await events(road.a + path)


async def test_a_stop_from_the_other_gateway(road: Road) -> None:
    started = await road.start("stopped", "Tell me about floods [[tokens=2000 rate=50]]")
    path = started["stream_url"]
    head = await events(road.a + path, most=8)
    async with httpx.AsyncClient(timeout=20) as client:
        reply = await client.post(f"{road.b}/chats/stopped/messages/{started['message_id']}/stop")
        assert reply.status_code in (200, 202), reply.text
    tail = await events(road.a + path, after=event_id(head[-1]))
    assert sse_types("".join(tail))[-2:] == ["abort", "end"]


async def test_what_is_beside_the_chats_is_found_too(road: Road) -> None:
    started = await road.start("listed", "Tell me about floods [[tokens=2000 rate=50]]")
    async with httpx.AsyncClient(timeout=20) as client:
        active = (await client.get(f"{road.b}/active")).json()
        assert "listed" in str(active)
        assert (await client.post(f"{road.b}/tickets", json={"use": "feed"})).status_code == 200
        assert started["message_id"] in (await client.get(f"{road.b}/chats/listed")).text
        stopped = await client.post(f"{road.b}/chats/listed/messages/{started['message_id']}/stop")
        assert stopped.status_code in (200, 202)


async def test_each_process_has_one_connection_a_node_and_one_subscription(road: Road, cluster: RedisCluster) -> None:
    clients = [line for node in cluster.nodes for line in ask(node, "CLIENT", "LIST").decode().splitlines()]
    ours = [line for line in clients if "cmd=client" not in line]
    processes = 3  # a worker and two gateways
    assert len(ours) == processes * len(cluster.nodes) + processes


async def test_without_a_redis_for_the_queue_nothing_starts(road: Road, cluster: RedisCluster) -> None:
    for start in (road.group.gateway, road.group.worker):
        process = await start(cluster.url, [], wait=False)
        assert await process.wait() == 2
        assert "set TAILRACE_QUEUE_REDIS_URL to a Redis with one primary" in process.tail()


async def test_a_queue_on_a_node_of_a_cluster_is_refused_too(road: Road, cluster: RedisCluster) -> None:
    models = [chat_model(road.model.port, default=True)]
    for start in (road.group.gateway, road.group.worker):
        process = await start(cluster.url, models, wait=False, TAILRACE_QUEUE_REDIS_URL=cluster.primaries[0].url)
        assert await process.wait() == 2
        assert "the queue's Redis runs in cluster mode" in process.tail()
