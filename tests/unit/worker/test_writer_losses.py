"""The writer where Redis lost something: a tail, a claim, the log; and where somebody else has the message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shared import events as ev
from shared.fold import fold
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Entry, Ownership, Retention
from shared.redis import resolver
from tests.support.log import Failover, claim, created, lose_everything, marker, payloads, run_out, seen
from tests.support.redis import RedisServer
from tests.support.wait import wait_until
from tests.unit.worker.pen import Pen, pen, said
from worker.ledger import Ledger
from worker.sender import NotOurs


async def owners_pen(log: Log, own: Ownership, before: list[Entry]) -> Pen:
    """Return the pen of an owner who found these entries."""
    ledger = Ledger(before, own.epoch, marker(1), max_entry=65_536, max_bytes=10_000_000, max_entries=100_000)
    pen = Pen(log, own, ledger, await log.backup(own.ref), 60_000)
    pen.writer.put(ev.TextStart("t"))
    return pen


async def test_a_lost_tail_is_written_again_byte_for_byte(log: Log, link: Link, ref: MessageRef) -> None:
    failover = Failover(link)
    async with pen(log, ref) as p:
        p.say("kept ")
        await p.logged("kept ")
        await failover.replicate()
        for word in ("lost ", "too "):
            p.say(word)
            await p.logged("kept lost " if word == "lost " else "kept lost too ")
        before = await payloads(log, ref)
        await failover.fail_over()
        assert await said(log, ref) == "kept "
        p.say("new")
        await p.logged("kept lost too new")
        assert (await payloads(log, ref))[: len(before)] == before
        assert p.metrics.registry.get_sample_value("tailrace_gap_repairs_total") == 1
        assert await p.finish() == "done"


async def test_a_tail_lost_before_the_end_is_written_with_the_end(log: Log, link: Link, ref: MessageRef) -> None:
    failover = Failover(link)
    async with pen(log, ref) as p:
        await failover.replicate()
        p.say("all of it")
        await p.logged("all of it")
        await failover.fail_over()
        assert await p.finish() == "done"
    events = [entry.event for entry in await log.read_all(ref)]
    assert isinstance(events[-1], ev.End)
    assert fold(events).text == "all of it"


async def test_a_lost_log_is_written_again_under_its_own_ids(log: Log, link: Link, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        p.say("one ")
        await p.logged("one ")
        before = await log.read_all(ref)
        await lose_everything(link)
        p.say("two")
        await p.logged("one two")
        assert (await log.read_all(ref))[: len(before)] == before
        assert await p.finish() == "done"
    assert (await seen(log, ref)).user == "ann"


async def test_a_log_that_is_lost_again_at_once_is_left_alone(log: Log, link: Link, ref: MessageRef) -> None:
    """There is a reason, and each restore is the whole log: a worker must not do nothing else."""
    async with pen(log, ref) as p:
        p.say("a ")
        await p.logged("a ")
        await lose_everything(link)
        p.say("b ")
        await p.logged("a b ")
        await lose_everything(link)
        p.say("c")
        await wait_until(lambda: p.signals == ["fenced"])
        assert await log.meta(ref) is None


async def test_a_lost_stream_under_a_kept_record_is_written_again(log: Log, link: Link, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        p.say("one ")
        await p.logged("one ")
        await link.call("DEL", log_keys(ref).stream)
        p.say("two")
        await p.logged("one two")


async def test_a_lost_claim_is_restored_while_the_lease_lasts(log: Log, link: Link, ref: MessageRef) -> None:
    failover = Failover(link)
    await created(log, ref)
    await failover.replicate()
    entries = await log.read_all(ref)
    own = await claim(log, ref)
    p = await owners_pen(log, own, entries)
    p.say("one ")
    await p.logged("one ")
    await failover.fail_over()
    assert (await seen(log, ref)).state == "queued"
    p.say("two")
    await p.logged("one two")
    assert await p.finish() == "done"


async def test_nothing_is_extended_on_another_connection_before_an_append_has_looked(
    log: Log, link: Link, ref: MessageRef
) -> None:
    """A failover forks the log, and the fork's owner has a lower epoch: ids alone would let two branches mix."""
    failover = Failover(link)
    await created(log, ref)
    await failover.replicate()
    await link.call("HSET", log_keys(ref).meta, "ep", (await seen(log, ref)).epoch + 10**10)
    before = await log.read_all(ref)
    own = await claim(log, ref)
    p = await owners_pen(log, own, before)
    for text in ("one ", "one two "):
        p.say(text[-4:])
        await p.logged(text)
    await failover.promote()
    assert (await claim(log, ref)).epoch < own.epoch
    await failover.break_connections()
    p.say("three")
    await p.logged("one two three")
    entries = await log.read_all(ref)
    assert [entry.cursor.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert {entry.cursor.epoch for entry in entries[1:]} == {own.epoch}, "its own branch, written back whole"
    assert await p.finish() == "done"


async def test_after_the_lease_nothing_is_restored(log: Log, link: Link, ref: MessageRef) -> None:
    async with pen(log, ref, lease_ms=2_000) as p:
        p.say("one")
        await p.logged("one")
        await wait_until(lambda: p.writer.lease.left_s(asyncio.get_running_loop().time()) < 0)
        await lose_everything(link)
        p.say("two")
        await wait_until(lambda: p.signals)
        assert p.signals == ["fenced"]
        with pytest.raises(NotOurs):
            await p.finish()
    assert await log.meta(ref) is None


class FrozenBeforeRestore(Log):
    """Its Redis stops answering just before the lost log is to be written again."""

    redis: RedisServer

    async def restore(self, own: Ownership, *args: Any, **options: Any) -> Any:
        await asyncio.to_thread(self.redis.pause)
        return await super().restore(own, *args, **options)


async def test_no_restore_is_tried_beyond_the_lease(start_redis: Callable[..., RedisServer], ref: MessageRef) -> None:
    redis = start_redis()
    link = Link(resolver(redis.url), name="test")
    await link.open(wait_s=5)
    log = FrozenBeforeRestore(link, Retention(), deadline_s=60)
    log.redis = redis
    try:
        async with pen(log, ref, lease_ms=2000) as p:
            p.say("one ")
            await p.logged("one ")
            await lose_everything(link)
            p.say("two")
            await wait_until(lambda: p.signals, deadline_s=4.0)
            assert p.signals == ["cut_off"]
    finally:
        await asyncio.to_thread(redis.resume)
        await link.close()


async def test_a_writer_whose_message_was_taken_over_writes_nothing_more(log: Log, link: Link, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        p.say("mine")
        await p.logged("mine")
        await run_out(link, ref)
        await claim(log, ref, seen=1)
        p.say(" and more")
        await wait_until(lambda: p.signals)
        assert p.signals == ["fenced"]
        with pytest.raises(NotOurs):
            await p.finish()
        assert await said(log, ref) == "mine"
    assert (await seen(log, ref)).state == "running"
