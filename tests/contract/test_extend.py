"""EXTEND: entries from the owner alone, behind the entry it believes to be the last; or nothing at all."""

from __future__ import annotations

from dataclasses import replace

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Reply, new_token
from tests.support.log import (
    Listener,
    append,
    claim,
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


async def test_a_repetition_and_a_gap_write_and_publish_nothing(log: Log, ref: MessageRef, redis_url: str) -> None:
    own = await started(log, ref)
    assert await extend(log, own, 2, "a", "b")
    async with Listener(redis_url, log_keys(ref).stream) as listener:
        assert not await extend(log, own, 2, "a", "b")
        assert not await extend(log, own, 3, "b", "c")
        assert not await extend(log, own, 5, "d")
        assert await listener.heard() == []
    assert (await payloads(log, ref))[2:] == [text("a"), text("b")]


async def test_the_lease_stays_as_it_is(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    before = await seen(log, ref)
    assert await extend(log, own, 2, "a")
    assert (await seen(log, ref)).lease_until == before.lease_until


async def test_a_foreign_token_is_refused(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    assert not await extend(log, replace(own, token=new_token()), 2, "a")
    assert len(await payloads(log, ref)) == 2


async def test_a_zombie_is_refused_even_where_its_successor_has_a_lower_epoch(
    log: Log, ref: MessageRef, link: Link
) -> None:
    zombie = await started(log, ref)
    await run_out(link, ref)
    await claim(log, ref, seen=1)
    # As after a failover to a server whose clock is behind: the id alone would not fence.
    ahead = replace(zombie, epoch=zombie.epoch + 10**9)
    assert not await extend(log, ahead, 3, "ghost")
    assert len(await payloads(log, ref)) == 3


async def test_nothing_is_written_once_it_is_handed_back_ended_or_deleted(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await log.release(own)
    assert not await extend(log, own, 2, "a")
    own = await claim(log, ref)
    await log.finish(own, 4, ending())
    assert not await extend(log, own, 4, "a")
    assert len(await payloads(log, ref)) == 4
    await log.delete(ref)
    assert not await extend(log, own, 4, "a")
    assert await payloads(log, ref) == []


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


async def test_a_server_that_has_forgotten_its_scripts_learns_it_again(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    assert await extend(log, own, 2, "a")
    await link.call("SCRIPT", "FLUSH")
    assert not await extend(log, own, 3, "b")
    assert await extend(log, own, 3, "b")


async def test_payloads_come_back_byte_for_byte(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    odd = [b'{"type":"x","v":"\\u0000 \xf0\x9f\x92\xac"}', b"", b"\x00\xff", b"9" * 1_000_000]
    assert await extend_by(log, own, 2, odd)
    assert (await payloads(log, ref))[2:] == odd
