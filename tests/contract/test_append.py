"""APPEND: entries by expected seq, from the owner alone, any number of times with the same effect."""

from __future__ import annotations

from dataclasses import replace

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Reply, new_token
from tests.support.log import append, claim, ending, payloads, run_out, seen, started, text


async def test_entries_follow_the_marker_under_the_owners_epoch(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    assert await append(log, own, 3, "a", "b") == Reply("ok", 4)
    assert await append(log, own, 5, "c") == Reply("ok", 5)
    entries = await log.read_all(ref)
    assert [entry.cursor.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert {entry.cursor.epoch for entry in entries[1:]} == {own.epoch}
    assert [entry.raw for entry in entries[2:]] == [text("a"), text("b"), text("c")]


async def test_a_repeated_append_writes_nothing_twice(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b")
    assert await append(log, own, 3, "a", "b") == Reply("ok", 4)
    assert (await payloads(log, ref))[2:] == [text("a"), text("b")]


async def test_an_append_that_overlaps_writes_only_what_is_new(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b")
    assert await append(log, own, 4, "b", "c", "d") == Reply("ok", 6)
    assert (await payloads(log, ref))[2:] == [text("a"), text("b"), text("c"), text("d")]


async def test_a_gap_is_refused_and_names_the_last_entry(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    assert await append(log, own, 4, "b") == Reply("gap", 2)
    assert len(await payloads(log, ref)) == 2


async def test_a_heartbeat_renews_the_lease_and_writes_nothing(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref, lease_ms=5_000)
    assert await append(log, own, 3, lease_ms=500_000) == Reply("ok", 2)
    meta = await seen(log, ref)
    assert meta.lease_until - meta.now > 400_000
    assert len(await payloads(log, ref)) == 2


async def test_an_append_renews_the_lease(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref, lease_ms=5_000)
    await append(log, own, 3, "a", lease_ms=500_000)
    meta = await seen(log, ref)
    assert meta.lease_until - meta.now > 400_000


async def test_an_owner_late_but_not_replaced_goes_on(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await run_out(link, ref)
    assert (await append(log, own, 3, "a")).status == "ok"
    assert (await seen(log, ref)).leased


async def test_a_foreign_token_and_a_foreign_epoch_are_fenced(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    fenced = Reply("fenced", state="running", epoch=own.epoch)
    assert await append(log, replace(own, token=new_token()), 3, "a") == fenced
    assert await append(log, replace(own, epoch=own.epoch + 1), 3, "a") == fenced
    assert await append(log, replace(own, token=new_token()), 3) == fenced
    assert len(await payloads(log, ref)) == 2


async def test_a_zombie_is_fenced_between_its_successors_claim_and_first_entry(
    log: Log, ref: MessageRef, link: Link
) -> None:
    zombie = await started(log, ref)
    await run_out(link, ref)
    own = await claim(log, ref, seen=1)
    assert await append(log, zombie, 4, "ghost") == Reply("fenced", state="running", epoch=own.epoch)
    assert (await append(log, own, 4, "a")).status == "ok"
    assert (await payloads(log, ref))[3:] == [text("a")]


async def test_the_wish_to_stop_comes_with_every_reply(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await log.stop(ref, "user")
    assert await append(log, own, 3, "a") == Reply("ok", 3, stop="user")
    assert await append(log, own, 4) == Reply("ok", 3, stop="user")


async def test_nothing_is_written_after_the_end(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await log.finish(own, 3, ending())
    assert await append(log, own, 4, "a") == Reply("final", state="done")
    assert await append(log, own, 4) == Reply("final", state="done")
    assert len(await payloads(log, ref)) == 3


async def test_nothing_is_written_to_a_deleted_message(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await log.delete(ref)
    assert await append(log, own, 3, "a") == Reply("final", state="deleted")
    assert await payloads(log, ref) == []


async def test_no_append_makes_a_key(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await link.call("DEL", log_keys(ref).stream)
    assert await append(log, own, 3, "a") == Reply("lost")
    assert await append(log, own, 3) == Reply("lost")
    await link.call("DEL", log_keys(ref).meta)
    assert await append(log, own, 3, "a") == Reply("gone")
    assert await link.call("EXISTS", log_keys(ref).stream, log_keys(ref).meta) == 0


async def test_payloads_come_back_byte_for_byte(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    odd = [b'{"type":"x","v":"\\u0000 \xf0\x9f\x92\xac"}', b"", b"\x00\xff", b"9" * 1_000_000]
    await log.append(own, 3, odd, lease_ms=5000, renew_ttl=False, deadline_s=5)
    assert (await payloads(log, ref))[2:] == odd
