"""The writer against a real Redis: batches, heartbeats, stops, ends, a full Redis. (Losses are tested beside.)"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from shared import events as ev
from shared.fold import fold
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Retention
from shared.message import decode_message
from shared.redis import resolver
from shared.tasks import end_tasks
from tests.support.fault_proxy import FaultProxy
from tests.support.log import seen
from tests.support.wait import wait_until
from tests.unit.worker.pen import Pen, pen, said
from worker.sender import NotOurs
from worker.writer import Writer


async def test_what_comes_while_an_append_is_in_flight_becomes_one_entry(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        p.say(*"abcdef")
        await p.logged("abcdef")
        entries = await log.read_all(ref)
    assert [entry.event for entry in entries][2:] == [ev.TextStart("t"), ev.TextDelta("t", "abcdef")]


async def test_the_first_event_does_not_wait_for_a_second(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref, flush_delay_s=30.0) as p:
        p.say("a")
        await p.logged("a")


async def test_batches_are_bounded_and_nothing_is_lost_between_them(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref, flush_bytes=2_000) as p:
        for number in range(300):
            p.writer.put(ev.Data("n", number))
        assert await p.finish() == "done"
    numbers = [entry.event.data for entry in await log.read_all(ref) if isinstance(entry.event, ev.Data)]
    assert numbers == list(range(300))


async def test_a_full_writer_makes_its_caller_wait_until_there_is_room(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref, max_unsent_bytes=1_000) as p:
        p.say("x" * 2_000)
        assert p.writer.full
        async with asyncio.timeout(5):
            await p.writer.wait_room()
        assert not p.writer.full


async def test_without_direct_appends_every_token_is_a_scripts_and_the_record_knows_the_last(
    log: Log, link: Link, ref: MessageRef
) -> None:
    """So that services that go by the record can run beside."""
    async with pen(log, ref, extends=False) as p:
        for text in ("one ", "one two "):
            p.say(text[-4:])
            await p.logged(text)
            last = (await log.read_all(ref))[-1].cursor.seq
            assert await link.call("HGET", log_keys(ref).meta, "seq") == b"%d" % last


async def test_a_stop_comes_with_the_reply_to_a_heartbeat(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        await p.logged("")
        await log.stop(ref)
        p.writer.beat()
        await wait_until(lambda: p.signals)
        assert p.signals[0] == "stop"
        assert await p.finish("aborted") == "aborted"


async def test_a_heartbeat_is_one_command_that_renews_the_lease(log: Log, link: Link, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        p.say("a")
        await p.logged("a")
        left, commands = p.writer.lease.left_s(0.0), link.stats.commands
        p.writer.beat()
        await wait_until(lambda: p.writer.lease.left_s(0.0) > left)
        assert link.stats.commands == commands + 1


async def test_tokens_alone_renew_no_lease_and_a_heartbeat_between_them_does(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        p.say("a")
        await p.logged("a")
        before = (await seen(log, ref)).lease_until
        left = p.writer.lease.left_s(0.0)
        p.say("b")
        await p.logged("ab")
        assert ((await seen(log, ref)).lease_until, p.writer.lease.left_s(0.0)) == (before, left)
        p.say("c")
        p.writer.beat()
        await wait_until(lambda: p.writer.lease.left_s(0.0) > left)
        assert (await seen(log, ref)).lease_until > before
        await p.logged("abc")


async def test_the_final_message_is_the_fold_of_the_whole_log(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        for number in range(5_000):
            p.say(f"{number} ")
            if number % 50 == 0:
                p.writer.put(ev.Data("n", number))
        await p.finish()
    events = [entry.event for entry in await log.read_all(ref)]
    final = await log.final(ref)
    assert final is not None
    assert decode_message(final) == fold(events)


async def test_finishing_twice_gives_one_end(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        p.say("x")
        assert await p.finish() == "done"
        assert await p.writer.finish("done", ev.End("done", 1)) == "done"
    ends = [entry for entry in await log.read_all(ref) if entry.is_end]
    assert len(ends) == 1


async def test_a_release_writes_what_waits_and_hands_the_attempt_back(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as p:
        p.say("all of this")
        await end_tasks(p.task)
        await p.writer.release(refund=True)
    meta = await seen(log, ref)
    assert (meta.state, meta.attempts) == ("queued", 0)
    assert await said(log, ref) == "all of this"


@pytest.mark.parametrize("replicas", [0, 1])
async def test_a_full_redis_is_noticed_and_the_message_can_still_be_ended(
    link: Link, ref: MessageRef, replicas: int
) -> None:
    log = Log(link, Retention(), replicas=replicas)
    async with pen(log, ref) as p:
        p.say("before ")
        await p.logged("before ")
        await link.call("CONFIG", "SET", "maxmemory", "1")
        try:
            p.say("never alone")
            await wait_until(lambda: p.writer.storage_full)
            assert await p.finish("failed") == "failed"
        finally:
            await link.call("CONFIG", "SET", "maxmemory", "0")
    assert await said(log, ref) == "before never alone"


async def test_a_full_redis_keeps_no_message_from_being_handed_back(log: Log, link: Link, ref: MessageRef) -> None:
    async with pen(log, ref, outage_s=0.1) as p:
        p.say("before ")
        await p.logged("before ")
        await end_tasks(p.task)
        p.say("refused")
        await link.call("CONFIG", "SET", "maxmemory", "1")
        try:
            await p.writer.release(refund=True)
        finally:
            await link.call("CONFIG", "SET", "maxmemory", "0")
    meta = await seen(log, ref)
    assert (meta.state, meta.attempts) == ("queued", 0)
    assert await said(log, ref) == "before "


async def test_where_replicas_count_the_outcome_is_decided_before_the_end(
    redis_url: str, link: Link, ref: MessageRef
) -> None:
    log = Log(link, Retention(), replicas=1)
    async with pen(log, ref) as p:
        p.say("x")
        assert await p.finish() == "done"
    meta = await log.meta(ref)
    assert meta is not None
    assert meta.decided == "done"
    events = [entry.event for entry in await log.read_all(ref)]
    assert events[-1] == ev.End("done", 1)
    assert fold(events).text == "x"


@pytest.mark.parametrize("ends", [True, False])
async def test_what_comes_while_the_message_is_ended_or_handed_back_is_left_out(
    log: Log, ref: MessageRef, ends: bool
) -> None:
    async with pen(log, ref) as p:
        p.say("before")
        await end_tasks(p.task)
        ending = asyncio.create_task(p.writer.finish("done", ev.End("done", 1)) if ends else released(p.writer))
        await asyncio.sleep(0)  # it has begun
        async with asyncio.timeout(10):
            while not ending.done():
                refused(p)
                await asyncio.sleep(0)
        await ending
        refused(p)
        assert not p.writer.ledger.goes_beyond(p.writer.ledger.last_seq)
    assert await said(log, ref) == "before"
    assert not any(isinstance(entry.event, ev.Data) for entry in await log.read_all(ref))


def refused(p: Pen) -> None:
    """Assert that nothing more is taken, be it text or another event."""
    with pytest.raises(NotOurs):
        p.say("late")
    with pytest.raises(NotOurs):
        p.writer.put(ev.Data("late", 1))


async def released(writer: Writer) -> str:
    await writer.release(refund=True)
    return ""


async def test_a_half_open_connection_is_left_while_the_lease_lasts(redis_url: str, ref: MessageRef) -> None:
    """It takes what is sent and brings no reply; a new one would serve. Found when the lease is over, it costs that."""
    host = urlsplit(redis_url)
    assert host.hostname is not None
    assert host.port is not None
    async with FaultProxy([(host.hostname, host.port)]) as proxy:
        link = Link(resolver(f"redis://127.0.0.1:{proxy.port}{host.path}"), name="half")
        await link.open(wait_s=5)
        async with pen(Log(link, Retention()), ref, lease_ms=8000) as p:
            p.say("before ")
            await p.logged("before ")
            await wait_until(lambda: p.writer.lease.beat_due(asyncio.get_running_loop().time()))
            proxy.cut("silence")
            p.writer.beat()
            await wait_until(lambda: link.stats.connects > 1 or p.signals)
            p.say("after")
            await wait_until(lambda: p.writer.acked == 4 or p.signals)
            assert p.signals == []
        await link.close()
