"""EXTEND: entries behind the entry that the owner knows to be the last; ids that are not above it are refused."""

from __future__ import annotations

from shared.cursor import Cursor
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Exists, Reply
from tests.support.log import (
    Listener,
    append,
    claim,
    create,
    ending,
    extend,
    extend_by,
    full,
    payloads,
    run_out,
    seen,
    started,
    text,
)


async def test_entries_follow_as_if_appended(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    assert await extend(log, own, 2, "a", "b")
    assert await extend(log, own, 4, "c")
    entries = await log.read_all(ref)
    assert [entry.cursor.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert {entry.cursor.epoch for entry in entries[1:]} == {own.epoch}
    assert [entry.raw for entry in entries[2:]] == [text("a"), text("b"), text("c")]
    assert (await seen(log, ref)).cursor == entries[-1].cursor
    assert await append(log, own, 5, "c", "d") == Reply("ok", 6), "an append goes on behind them"


async def test_it_publishes_the_same_batch(log: Log, ref: MessageRef, redis_url: str) -> None:
    own = await started(log, ref)
    async with Listener(redis_url, log_keys(ref).stream) as listener:
        assert await extend(log, own, 2, "a", "b")
        await append(log, own, 5, "c", "d")
        extended, appended = await listener.heard()
    assert extended == b"%d-2 %d-3\n%b\n%b" % (own.epoch, own.epoch, text("a"), text("b"))
    assert appended == b"%d-4 %d-5\n%b\n%b" % (own.epoch, own.epoch, text("c"), text("d"))


async def test_a_repetition_writes_nothing_twice(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    assert await extend(log, own, 2, "a", "b")
    assert not await extend(log, own, 2, "a", "b")
    assert not await extend(log, own, 3, "b", "c"), "what is new in it is written, and the owner will ask"
    assert (await payloads(log, ref))[2:] == [text("a"), text("b"), text("c")]
    assert await append(log, own, 4, "b", "c") == Reply("ok", 5)


async def test_the_lease_stays_as_it_is(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    before = await seen(log, ref)
    assert await extend(log, own, 2, "a")
    assert (await seen(log, ref)).lease_until == before.lease_until


async def test_a_zombie_is_refused_from_its_successors_claim_on(log: Log, ref: MessageRef, link: Link) -> None:
    zombie = await started(log, ref)
    assert await extend(log, zombie, 2, "a")
    await run_out(link, ref)
    await claim(log, ref, seen=1)
    assert not await extend(log, zombie, 3, "ghost")
    assert len(await payloads(log, ref)) == 4


async def test_what_a_refused_one_publishes_fits_nobody_who_has_the_claim(
    log: Log, ref: MessageRef, link: Link, redis_url: str
) -> None:
    zombie = await started(log, ref)
    async with Listener(redis_url, log_keys(ref).stream) as listener:
        await run_out(link, ref)
        own = await claim(log, ref, seen=1)
        assert not await extend(log, zombie, 2, "ghost")
        marked, ghost = await listener.heard()
    assert marked.startswith(b"%d-2 %d-3\n" % (zombie.epoch, own.epoch))
    assert ghost.startswith(b"%d-2 %d-3\n" % (zombie.epoch, zombie.epoch)), "behind an entry that is not the last now"


async def test_nothing_is_written_once_it_is_ended_or_deleted(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await log.finish(own, 3, ending())
    assert not await extend(log, own, 2, "a")
    assert len(await payloads(log, ref)) == 3
    await log.delete(ref)
    assert not await extend(log, own, 2, "a")
    assert await payloads(log, ref) == []


async def test_what_comes_late_behind_a_release_is_a_part_of_the_log_as_its_next_owner_finds_it(
    log: Log, ref: MessageRef
) -> None:
    own = await started(log, ref)
    await log.release(own)
    assert await extend(log, own, 2, "late")
    successor = await claim(log, ref)
    assert successor.marker_seq == 4
    assert not await extend(log, own, 3, "too late")
    assert await append(log, successor, 5, "a") == Reply("ok", 5)


async def test_it_makes_no_key(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await link.call("DEL", log_keys(ref).stream)
    assert not await extend(log, own, 2, "a")
    assert (await seen(log, ref)).seq == 2
    await link.call("DEL", log_keys(ref).meta)
    assert not await extend(log, own, 2, "a")
    assert await link.call("EXISTS", log_keys(ref).stream, log_keys(ref).meta) == 0


async def test_a_full_redis_refuses_the_whole_of_it(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    async with full(link):
        assert not await extend(log, own, 2, "a", "b")
    assert len(await payloads(log, ref)) == 2
    assert await extend(log, own, 2, "a", "b")


async def test_every_operation_goes_by_what_it_has_written(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    assert await extend(log, own, 2, "a", "b")
    last = Cursor(own.epoch, 4)
    assert (await seen(log, ref)).cursor == last
    assert await create(log, ref) == Exists("running", last)
    assert await append(log, own, 5) == Reply("ok", 4), "a heartbeat"
    assert await extend(log, own, 4, "c")
    assert (await append(log, own, 7, "e")).status == "gap"
    await run_out(link, ref)
    assert (await log.force(await seen(log, ref), ending("failed"))).seq == 6


async def test_payloads_come_back_byte_for_byte(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    odd = [b'{"type":"x","v":"\\u0000 \xf0\x9f\x92\xac"}', b"", b"\x00\xff", b"9" * 1_000_000]
    assert await extend_by(log, own, 2, odd)
    assert (await payloads(log, ref))[2:] == odd
