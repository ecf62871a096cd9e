"""FORCE and STOP: how a message ends that nobody owns, and who must act."""

from __future__ import annotations

import pytest

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import NotClaimed, Reply, StopReply
from tests.support.log import (
    Listener,
    append,
    claim,
    create,
    created,
    ending,
    payloads,
    run_out,
    seen,
    started,
    text,
    try_claim,
)


async def test_a_queued_message_is_forced_to_its_end(log: Log, ref: MessageRef) -> None:
    first = await created(log, ref)
    reply = await log.force(await seen(log, ref), ending("aborted", text("closing")))
    assert reply == Reply("ok", 3, state="aborted")
    entries = await log.read_all(ref)
    assert [entry.raw for entry in entries[1:]] == [text("closing"), ending("aborted").end]
    assert entries[-1].cursor > first
    meta = await seen(log, ref)
    assert (meta.state, meta.cursor) == ("aborted", entries[-1].cursor)
    assert await log.final(ref) == ending("aborted").final
    assert await log.active(ref.tenant, ref.chat_id) is None
    assert await log.in_flight(ref.tenant, ref.chat_id) == []
    assert await log.tombstone(ref) == "ann"


async def test_a_forced_end_fences_the_owner_whose_lease_ran_out(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await run_out(link, ref)
    await log.force(await seen(log, ref), ending("failed"))
    assert await append(log, own, 3, "ghost") == Reply("final", state="failed")
    assert (await log.finish(own, 3, ending())).status == "fenced"
    assert (await payloads(log, ref))[-1] == ending("failed").end


async def test_a_leased_message_is_not_forced(log: Log, ref: MessageRef) -> None:
    await started(log, ref)
    meta = await seen(log, ref)
    assert await log.force(meta, ending("failed")) == Reply("moved", state="running", epoch=meta.epoch)


@pytest.mark.parametrize("event", ["append", "heartbeat", "claim", "release", "takeover"])
async def test_a_message_that_moved_since_it_was_seen_is_not_forced(
    log: Log, ref: MessageRef, link: Link, event: str
) -> None:
    if event == "claim":
        await create(log, ref)
        meta = await seen(log, ref)
        await claim(log, ref)
        await run_out(link, ref)
    else:
        own = await started(log, ref)
        await run_out(link, ref)
        meta = await seen(log, ref)
        match event:
            case "append":
                await append(log, own, 3, "a")
                await run_out(link, ref)
            case "heartbeat":
                await append(log, own, 3)
            case "release":
                await log.release(own)
            case _:
                await claim(log, ref, seen=1)
                await run_out(link, ref)
    before = await payloads(log, ref)
    assert (await log.force(meta, ending("failed"))).status == "moved"
    assert await payloads(log, ref) == before


async def test_an_ended_message_is_not_forced_again(log: Log, ref: MessageRef) -> None:
    await create(log, ref)
    meta = await seen(log, ref)
    await log.force(meta, ending("aborted"))
    assert await log.force(meta, ending("failed")) == Reply("final", state="aborted")
    assert len(await payloads(log, ref)) == 2


async def test_a_decided_message_is_forced_to_what_was_decided(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await log.decide(own, ending("done"))
    await run_out(link, ref)
    reply = await log.force(await seen(log, ref), ending("failed", text("not this")))
    assert reply == Reply("ok", 3, state="done")
    assert (await payloads(log, ref))[2:] == [ending("done").end]
    assert await log.final(ref) == ending("done").final


async def test_a_message_that_was_asked_to_stop_is_forced_to_no_other_end(log: Log, ref: MessageRef) -> None:
    """Who saw it before the wish looks again, and then ends it as stopped."""
    await create(log, ref)
    meta = await seen(log, ref)
    assert await log.stop(ref) == StopReply("ownerless")
    assert await log.force(meta, ending("failed")) == Reply("moved", state="queued", epoch=meta.epoch)
    assert await log.force(meta, ending("aborted")) == Reply("ok", 2, state="aborted")


async def test_a_decision_stands_also_against_a_wish_to_stop(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await log.decide(own, ending("done"))
    await log.stop(ref)
    await run_out(link, ref)
    assert await log.force(await seen(log, ref), ending("failed")) == Reply("ok", 3, state="done")


async def test_what_is_gone_is_not_forced(log: Log, ref: MessageRef, link: Link) -> None:
    await create(log, ref)
    meta = await seen(log, ref)
    await link.call("DEL", log_keys(ref).meta)
    assert await log.force(meta, ending("failed")) == Reply("gone")
    assert await link.call("EXISTS", log_keys(ref).meta) == 0


async def test_stop_of_a_leased_message_wakes_its_worker(log: Log, ref: MessageRef, redis_url: str) -> None:
    await started(log, ref, channel="tr:worker:one")
    async with Listener(redis_url, "tr:worker:one") as worker:
        assert await log.stop(ref) == StopReply("stopping")
        assert await worker.heard() == [ref.message_id.encode()]
    meta = await seen(log, ref)
    assert (meta.state, meta.stop) == ("running", "user")


async def test_the_first_reason_to_stop_stays(log: Log, ref: MessageRef) -> None:
    await started(log, ref)
    await log.stop(ref, "user")
    await log.stop(ref, "deadline")
    assert (await seen(log, ref)).stop == "user"


async def test_stop_of_a_queued_or_abandoned_message_asks_the_caller_to_end_it(
    log: Log, ref: MessageRef, link: Link
) -> None:
    await create(log, ref)
    assert await log.stop(ref) == StopReply("ownerless")
    assert (await log.force(await seen(log, ref), ending("aborted"))).status == "ok"
    assert await log.stop(ref) == StopReply("final", "aborted")


async def test_stop_of_a_message_whose_lease_ran_out_is_ownerless(log: Log, ref: MessageRef, link: Link) -> None:
    await started(log, ref)
    await run_out(link, ref)
    assert (await log.stop(ref)).status == "ownerless"
    assert await try_claim(log, ref, seen=1) == NotClaimed("stopped")


async def test_stop_of_an_ended_or_unknown_message(log: Log, ref: MessageRef) -> None:
    assert await log.stop(ref) == StopReply("gone")
    own = await started(log, ref)
    await log.finish(own, 3, ending())
    assert await log.stop(ref) == StopReply("final", "done")
    assert (await seen(log, ref)).stop is None
