"""CLAIM: one owner at a time, and a marker entry that keeps every earlier owner out."""

from __future__ import annotations

import asyncio

import pytest

from shared.events import Attempt
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Claimed, NotClaimed, Retention, new_token
from tests.support.log import append, claim, create, created, ending, run_out, seen, started, try_claim


async def test_a_claim_writes_its_marker_as_the_next_entry(log: Log, ref: MessageRef) -> None:
    first = await created(log, ref)
    own = await claim(log, ref, channel="tr:worker:one")
    assert (own.attempt, own.marker_seq) == (1, 2)
    entries = await log.read_all(ref)
    assert (entries[0].cursor.epoch, entries[1].cursor.epoch) == (first.epoch, own.epoch)
    assert own.epoch > entries[0].cursor.epoch
    assert entries[1].event == Attempt(1, "first", "start")
    meta = await seen(log, ref)
    assert (meta.state, meta.worker, meta.attempts, meta.leased) == ("running", "tr:worker:one", 1, True)
    assert meta.cursor == entries[-1].cursor


async def test_a_repeated_claim_whose_reply_was_lost_gives_the_same_ownership(log: Log, ref: MessageRef) -> None:
    await create(log, ref)
    token = new_token()
    own = await claim(log, ref, token=token)
    assert await claim(log, ref, token=token) == own
    assert len(await log.read_all(ref)) == 2


async def test_a_leased_message_is_busy_for_the_time_its_lease_has_left(log: Log, ref: MessageRef) -> None:
    await started(log, ref, lease_ms=50_000)
    reply = await try_claim(log, ref, seen=1)
    assert isinstance(reply, NotClaimed)
    assert reply.reason == "busy"
    assert 0 < int(reply.detail) <= 50_000


async def test_of_twenty_racing_claims_one_wins(log: Log, ref: MessageRef) -> None:
    await create(log, ref)
    replies = await asyncio.gather(*(try_claim(log, ref) for _ in range(20)))
    assert sum(isinstance(reply, Claimed) for reply in replies) == 1
    assert len(await log.read_all(ref)) == 2


async def test_a_claim_after_the_lease_ran_out_takes_over(log: Log, ref: MessageRef, link: Link) -> None:
    first = await started(log, ref)
    await append(log, first, 3, "a", "b")
    await run_out(link, ref)
    second = await claim(log, ref, seen=1)
    assert (second.attempt, second.marker_seq) == (2, 5)
    assert second.epoch > first.epoch
    assert (await append(log, first, 6, "c")).status == "fenced"


async def test_a_claim_with_an_outdated_attempt_number_moves(log: Log, ref: MessageRef, link: Link) -> None:
    """Its marker would tell viewers a wrong number."""
    await started(log, ref)
    await run_out(link, ref)
    assert await try_claim(log, ref, seen=0) == NotClaimed("moved", "1")


async def test_attempts_run_out(log: Log, ref: MessageRef, link: Link) -> None:
    await started(log, ref)
    await run_out(link, ref)
    reply = await try_claim(log, ref, seen=1, most=1)
    assert reply == NotClaimed("exhausted")
    assert isinstance(reply, NotClaimed)
    assert reply.needs_force


async def test_a_stop_wins_over_another_attempt(log: Log, ref: MessageRef) -> None:
    await create(log, ref)
    await log.stop(ref)
    assert await try_claim(log, ref) == NotClaimed("stopped")


async def test_no_attempt_begins_after_the_deadline(log: Log, ref: MessageRef, link: Link) -> None:
    await create(log, ref)
    await link.call("HSET", log_keys(ref).meta, "dl", "1")
    assert await try_claim(log, ref) == NotClaimed("expired")


async def test_a_decided_message_is_not_generated_again(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await log.decide(own, ending())
    await run_out(link, ref)
    assert await try_claim(log, ref, seen=1) == NotClaimed("decided")


async def test_a_message_without_a_stream_is_lost_and_no_entry_appears(log: Log, ref: MessageRef, link: Link) -> None:
    await create(log, ref)
    await link.call("DEL", log_keys(ref).stream)
    reply = await try_claim(log, ref)
    assert reply == NotClaimed("lost")
    assert await log.read_all(ref) == []
    assert (await seen(log, ref)).state == "queued"


@pytest.mark.parametrize("state", ["done", "failed", "aborted"])
async def test_an_ended_message_is_final(log: Log, ref: MessageRef, state: str) -> None:
    own = await started(log, ref)
    await log.finish(own, 3, ending(state))
    assert await try_claim(log, ref, seen=1) == NotClaimed("final", state)


async def test_what_never_was_is_gone(log: Log, ref: MessageRef) -> None:
    assert await try_claim(log, ref) == NotClaimed("gone")


async def test_a_deleted_message_is_final(log: Log, ref: MessageRef) -> None:
    await create(log, ref)
    await log.delete(ref)
    assert await try_claim(log, ref) == NotClaimed("final", "deleted")


async def test_a_claim_renews_the_life_of_every_key(link: Link, ref: MessageRef) -> None:
    log = Log(link, Retention(live_ms=50_000))
    await create(log, ref)
    keys = log_keys(ref)
    for key in (keys.meta, keys.stream, keys.active, keys.live):
        await link.call("PEXPIRE", key, 1000)
    await claim(log, ref)
    for key in (keys.meta, keys.stream, keys.active, keys.live):
        assert await link.call("PTTL", key) > 1000, key
