"""Segments beside the appends: written while the answer is, mended when lost, and never what a message waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared import events as ev
from shared.errors import StorageFull, Unavailable
from shared.fold import fold
from shared.ids import MessageRef
from shared.link import Link, ReplyError
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.segments import SEGMENT_BYTES, SEGMENT_ENTRIES, Segment, fitting
from shared.log.so_far import read_so_far
from shared.log.types import Ownership, Reply, Retention
from shared.message import Message, encode_message
from tests.support.log import Failover, claim, lose_everything, marker, run_out
from tests.support.wait import wait_until
from tests.unit.worker.pen import Pen, pen
from worker.ledger import Ledger


async def write(p: Pen, count: int) -> None:
    """Have so many entries in the log: the parts of their deltas take turns, so that none is joined while it waits."""
    last = p.writer.ledger.last_seq
    for n in range(count):
        p.writer.put(ev.TextDelta("tu"[n % 2], f"{n} "))
    await wait_until(lambda: p.writer.acked >= last + count, what="the entries in the log")


async def segments(log: Log, ref: MessageRef, count: int) -> list[Segment]:
    """Wait for so many segments, all of which the log has."""

    async def there() -> bool:
        return len(await log.segments(ref)) >= count

    await wait_until(there, what=f"{count} segments")
    found = await log.segments(ref)
    assert fitting(found, await log.read_all(ref)) == found
    return found


async def check_fold(log: Log, ref: MessageRef) -> None:
    """Hold what a late reader gets against the whole log."""
    so_far = await read_so_far(log, ref)
    whole = fold(entry.event for entry in await log.read_all(ref))
    assert encode_message(await so_far.fold(Message())) == encode_message(whole)
    assert so_far.segments


class Odd(Log):
    """A log whose checkpoints do what `deed` does before they are sent, if it lets them be."""

    deed: Any = None
    asked = 0

    async def checkpoint(self, own: Ownership, number: int, segment: Segment) -> Reply:
        self.asked += 1
        if self.deed is not None:
            await self.deed()
        return await super().checkpoint(own, number, segment)


@pytest.fixture
def odd(link: Link) -> Odd:
    return Odd(link, Retention())


async def test_a_segment_is_written_for_every_so_many_entries(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        for count in (1, 2, 3):
            await write(p, SEGMENT_ENTRIES)
            found = await segments(log, ref, count)
            assert [each.last.seq for each in found] == [SEGMENT_ENTRIES * n for n in range(1, count + 1)]
            await check_fold(log, ref)
        assert await p.finish() == "done"
        assert p.metrics.registry.get_sample_value("tailrace_segments_total", {"outcome": "written"}) == 3
    await check_fold(log, ref)
    assert await log.final(ref) == encode_message(fold(entry.event for entry in await log.read_all(ref)))


async def test_a_short_answer_has_none(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        await write(p, SEGMENT_ENTRIES - 4)
        await p.finish()
    assert await log.segments(ref) == []


async def test_few_large_entries_are_enough_for_one_too(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        for n in range(9):
            p.writer.put(ev.Data("n", str(n) * (SEGMENT_BYTES // 8)))
        p.say("done")
        await p.logged("done")
        p.say("!")
        found = await segments(log, ref, 1)
    assert found[0].last.seq <= 12
    assert len(found[0].encode()) < 1.2 * SEGMENT_BYTES


async def test_no_entry_waits_for_a_segment_and_one_is_on_its_way_at_most(odd: Odd, ref: MessageRef) -> None:
    gate = asyncio.Event()
    odd.deed = gate.wait
    async with pen(odd, ref) as p:
        for _ in range(3):
            await write(p, SEGMENT_ENTRIES)  # waits until they are in the log
        assert odd.asked == 1
        gate.set()
        await segments(odd, ref, 1)
        await write(p, SEGMENT_ENTRIES)
        await segments(odd, ref, 4)  # what was missed meanwhile, too


async def test_an_answer_can_end_while_a_segment_is_on_its_way(odd: Odd, ref: MessageRef) -> None:
    odd.deed = asyncio.Event().wait
    async with pen(odd, ref) as p:
        await write(p, SEGMENT_ENTRIES)
        await wait_until(lambda: odd.asked)
        assert await p.finish() == "done"
    assert await odd.segments(ref) == []


@pytest.mark.parametrize("error", [StorageFull("full"), Unavailable("away"), ReplyError("NOPERM"), ValueError("a bug")])
async def test_no_failure_of_a_segment_harms_the_answer(odd: Odd, ref: MessageRef, error: Exception) -> None:
    async def fail() -> None:
        raise error

    odd.deed = fail
    async with pen(odd, ref) as p:
        await write(p, SEGMENT_ENTRIES)
        await wait_until(lambda: odd.asked)
        await write(p, SEGMENT_ENTRIES // 2)
        assert odd.asked == 1  # a full Redis is not asked again with every token
        odd.deed = None
        await write(p, SEGMENT_ENTRIES)
        assert len(await segments(odd, ref, 2)) == 2
        assert p.metrics.registry.get_sample_value("tailrace_segments_total", {"outcome": "failed"}) == 1
        assert p.signals == []
        assert await p.finish() == "done"


async def test_segments_that_a_failover_lost_are_written_again(log: Log, link: Link, ref: MessageRef) -> None:
    failover = Failover(link)
    async with pen(log, ref) as p:
        await write(p, SEGMENT_ENTRIES)
        await segments(log, ref, 1)
        await failover.replicate()
        await write(p, 2 * SEGMENT_ENTRIES)
        before = await segments(log, ref, 3)
        await failover.fail_over()
        assert len(await log.segments(ref)) == 1
        await write(p, SEGMENT_ENTRIES)
        assert (await segments(log, ref, 4))[:3] == before
        await check_fold(log, ref)
        outcomes = ("written", "refused")  # three, one in vain, and three: those that were lost and a fourth
        values = [p.metrics.registry.get_sample_value("tailrace_segments_total", {"outcome": o}) for o in outcomes]
        assert values == [6, 1]


async def test_a_log_that_was_restored_gets_its_segments_back(log: Log, link: Link, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        await write(p, SEGMENT_ENTRIES)
        await segments(log, ref, 1)
        await lose_everything(link)
        await write(p, 10)
        assert await log.segments(ref) == []
        await write(p, SEGMENT_ENTRIES)
        await segments(log, ref, 2)
        await check_fold(log, ref)


async def test_a_fenced_owner_adds_none(odd: Odd, link: Link, ref: MessageRef) -> None:
    gate = asyncio.Event()
    odd.deed = gate.wait
    async with pen(odd, ref) as p:
        await write(p, SEGMENT_ENTRIES)
        await wait_until(lambda: odd.asked)
        await run_out(link, ref)
        await claim(odd, ref, seen=1)
        gate.set()
        refused = ("tailrace_segments_total", {"outcome": "refused"})
        await wait_until(lambda: p.metrics.registry.get_sample_value(*refused) == 1)
    assert await odd.segments(ref) == []


async def test_the_next_owner_goes_on_where_the_last_one_stopped(log: Log, link: Link, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        await write(p, SEGMENT_ENTRIES + 100)
        before = await segments(log, ref, 1)
    await run_out(link, ref)
    entries = await log.read_all(ref)
    own = await claim(log, ref, seen=1)
    how: dict[str, Any] = {"max_entry": 65_536, "max_bytes": 10_000_000, "max_entries": 100_000}
    ledger = Ledger(entries, own.epoch, marker(2), **how, segments=fitting(await log.segments(ref), entries))
    successor = Pen(log, own, ledger, await log.backup(ref), 60_000)
    await write(successor, SEGMENT_ENTRIES)
    found = await segments(log, ref, 2)
    assert found[:1] == before
    assert found[1].last.epoch == own.epoch
    await check_fold(log, ref)
    assert await successor.finish() == "done"
    assert await log.final(ref) == encode_message(fold(entry.event for entry in await log.read_all(ref)))


async def test_the_keys_of_a_long_answer_live_equally_long(log: Log, link: Link, ref: MessageRef) -> None:
    keys = log_keys(ref)
    async with pen(log, ref) as p:
        await write(p, SEGMENT_ENTRIES)
        await segments(log, ref, 1)
        for key in (keys.stream, keys.segments):
            await link.call("PEXPIRE", key, 10_000)
        p.writer.lease._next_ttl = 0.0  # as after half a minute
        p.writer.beat()

        async def renewed() -> bool:
            lives: list[int] = [await link.call("PTTL", key) for key in (keys.stream, keys.segments)]
            return min(lives) > 60_000

        await wait_until(renewed, what="both keys renewed")
