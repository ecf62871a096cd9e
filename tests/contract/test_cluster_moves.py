"""A slot that moves while its log is written, a primary that dies while others serve: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from shared.commands import Commands
from shared.ids import MessageRef
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Ownership, Retention
from shared.redis import command_link
from shared.slots import slot_of
from tests.support.log import append, claim, created, ending, payloads, seen, segments_of, started, text
from tests.support.redis_cluster import RedisCluster, ask, cluster_binaries, cluster_name, running_cluster
from tests.support.wait import wait_until


@pytest.fixture(scope="module", params=cluster_binaries(), ids=cluster_name)
def cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """Three primaries, of each version that is here."""
    with running_cluster(request.param) as cluster:
        yield cluster


@pytest.fixture
async def link(cluster: RedisCluster) -> AsyncIterator[Commands]:
    """A link to the cluster."""
    link = command_link(cluster.url, name="moves")
    await link.open(wait_s=5)
    yield link
    await link.close()


class Writer:
    """Appends one entry after the other and counts those that were acknowledged."""

    def __init__(self, log: Log, own: Ownership) -> None:
        self.acknowledged = 0
        self._log = log
        self._own = own
        self._enough = False

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write in the background; on leaving, finish the entry that is on its way."""
        task = asyncio.create_task(self._write())
        try:
            await self.gets_on()
            yield
            await self.gets_on()
        finally:
            self._enough = True
            await task

    async def gets_on(self) -> None:
        """Wait until some more were acknowledged."""
        goal = self.acknowledged + 20
        await wait_until(lambda: self.acknowledged >= goal, what="the appends do not go on")

    async def _write(self) -> None:
        while not self._enough:
            n = self.acknowledged
            assert (await append(self._log, self._own, 3 + n, str(n))).status == "ok"
            self.acknowledged += 1


def said(count: int) -> list[bytes]:
    return [text(str(n)) for n in range(count)]


async def test_a_slot_moves_while_its_log_is_written(cluster: RedisCluster, link: Commands, ref: MessageRef) -> None:
    log = Log(link, Retention())
    own = await started(log, ref)
    stream = log_keys(ref).stream
    writer = Writer(log, own)
    async with writer.writing():
        move = await asyncio.to_thread(cluster.begin_move, slot_of(stream))
        await writer.gets_on()
        assert await asyncio.to_thread(move.move_keys) == 5  # record, log, active pointer, those in flight, latest
        await writer.gets_on()
        # The map still says that the source has them: ASK is followed, and the map left as it is.
        count = writer.acknowledged
        assert (await payloads(log, ref))[2 : count + 2] == said(count)
        assert await asyncio.to_thread(ask, move.source, "CLUSTER", "COUNTKEYSINSLOT", move.slot) == 0
        assert len(link.lanes(stream)) == 2
        assert (await log.stop(ref)).status == "stopping"
        await asyncio.to_thread(move.end)
    assert (await payloads(log, ref))[2:] == said(writer.acknowledged)
    assert cluster.owner(move.slot) is move.target
    await wait_until(lambda: link.up)


async def test_segments_are_stored_while_their_slot_moves(
    cluster: RedisCluster, link: Commands, ref: MessageRef
) -> None:
    log = Log(link, Retention())
    own = await started(log, ref)
    await append(log, own, 3, "a", "b")
    first, second, third = segments_of(await log.read_all(ref), 2, 3, 4)
    assert (await log.checkpoint(own, 0, first)).status == "ok"  # a key that is not there yet would be waited for
    move = await asyncio.to_thread(cluster.begin_move, slot_of(log_keys(ref).meta))
    assert (await log.checkpoint(own, 1, second)).status == "ok"
    await asyncio.to_thread(move.move_keys)
    assert (await log.checkpoint(own, 2, third)).status == "ok"
    await asyncio.to_thread(move.end)
    assert await log.segments(ref) == [first, second, third]


async def test_a_start_and_an_end_in_a_slot_that_moves_wait_and_happen_once(
    cluster: RedisCluster, link: Commands, ref: MessageRef
) -> None:
    log = Log(link, Retention())
    move = await asyncio.to_thread(cluster.begin_move, slot_of(log_keys(ref).meta))
    starting = asyncio.create_task(created(log, ref))
    await asyncio.wait([starting], timeout=0.1)
    assert not starting.done()
    await asyncio.to_thread(move.end)
    await starting
    own = await claim(log, ref)
    move = await asyncio.to_thread(cluster.begin_move, slot_of(log_keys(ref).meta))
    finishing = asyncio.create_task(log.finish(own, 3, ending("done", text("last"))))
    await asyncio.wait([finishing], timeout=0.1)
    assert not finishing.done()
    await asyncio.to_thread(move.move_keys)
    await asyncio.to_thread(move.end)
    assert (await finishing).status == "ok"
    assert len(await payloads(log, ref)) == 4
    assert (await seen(log, ref)).state == "done"


async def test_a_map_that_is_out_of_date_is_put_right(cluster: RedisCluster, link: Commands, ref: MessageRef) -> None:
    log = Log(link, Retention())
    own = await started(log, ref)
    before = link.lanes(log_keys(ref).meta)
    move = await asyncio.to_thread(cluster.begin_move, slot_of(log_keys(ref).meta))
    await asyncio.to_thread(move.move_keys)
    await asyncio.to_thread(move.end)
    assert link.lanes(log_keys(ref).meta) == before
    commands = link.stats.commands
    assert (await append(log, own, 3, "0")).status == "ok"
    # MOVED, NOSCRIPT, done; and the map is read meanwhile, which takes two.
    assert link.stats.commands - commands <= 5
    assert link.lanes(log_keys(ref).meta) != before
