"""FINISH and DECIDE: the end is stored, told and settled in one step, and decided once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Reply, Retention, new_token
from tests.support.log import append, claim, ending, payloads, run_out, seen, started, text


@pytest.mark.parametrize("state", ["done", "failed", "aborted"])
async def test_the_end_is_the_last_entry_and_the_record_agrees(log: Log, ref: MessageRef, state: str) -> None:
    own = await started(log, ref)
    assert await log.final(ref) is None
    assert await log.finish(own, 3, ending(state, text("a"))) == Reply("ok", 4, state=state)
    entries = await log.read_all(ref)
    assert [entry.raw for entry in entries[2:]] == [text("a"), ending(state).end]
    assert [entry.is_end for entry in entries] == [False, False, False, True]
    meta = await seen(log, ref)
    assert (meta.state, meta.cursor, meta.leased) == (state, entries[-1].cursor, False)
    assert await log.final(ref) == ending(state).final
    assert await log.active(ref.tenant, ref.chat_id) is None
    assert await log.in_flight(ref.tenant, ref.chat_id) == []
    assert await log.tombstone(ref) == "ann"


async def test_a_repeated_finish_says_the_same_and_writes_nothing(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    first = await log.finish(own, 3, ending("done", text("a")))
    assert await log.finish(own, 3, ending("done", text("a"))) == first
    assert await log.finish(own, 3, ending("failed")) == first
    assert len(await payloads(log, ref)) == 4


async def test_an_entry_sent_again_with_the_end_is_written_once(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a")
    assert await log.finish(own, 3, ending("done", text("a"), text("b"))) == Reply("ok", 5, state="done")
    assert (await payloads(log, ref))[2:] == [text("a"), text("b"), ending().end]


async def test_a_gap_before_the_end_is_refused(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    assert await log.finish(own, 5, ending("done", text("c"))) == Reply("gap", 2)
    assert (await seen(log, ref)).state == "running"


async def test_only_the_owner_finishes(log: Log, ref: MessageRef, link: Link) -> None:
    zombie = await started(log, ref)
    await run_out(link, ref)
    own = await claim(log, ref, seen=1)
    fenced = Reply("fenced", state="running", epoch=own.epoch)
    assert await log.finish(zombie, 3, ending()) == fenced
    assert await log.finish(replace(own, token=new_token()), 4, ending()) == fenced
    assert await log.finish(own, 4, ending()) == Reply("ok", 4, state="done")
    assert (await log.finish(zombie, 3, ending("failed"))).status == "fenced"
    assert await log.final(ref) == ending().final


async def test_a_finish_without_a_stream_is_lost_and_without_a_record_gone(
    log: Log, ref: MessageRef, link: Link
) -> None:
    own = await started(log, ref)
    await link.call("DEL", log_keys(ref).stream)
    assert await log.finish(own, 3, ending()) == Reply("lost")
    assert (await seen(log, ref)).state == "running"
    await link.call("DEL", log_keys(ref).meta)
    assert await log.finish(own, 3, ending()) == Reply("gone")


async def test_a_finish_leaves_another_active_message_alone(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await link.call("SET", log_keys(ref).active, "other")
    await log.finish(own, 3, ending())
    assert await log.active(ref.tenant, ref.chat_id) == "other"


async def test_each_period_of_retention_is_its_own(link: Link, ref: MessageRef) -> None:
    log = Log(link, Retention(3_600_000, 10_000, 20_000, 30_000))
    own = await started(log, ref)
    await log.finish(own, 3, ending())
    keys = log_keys(ref)
    for key, period in ((keys.stream, 10_000), (keys.meta, 20_000), (keys.tomb, 30_000)):
        assert period - 5_000 < await link.call("PTTL", key) <= period


async def test_a_decision_stands_whatever_is_finished_later(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    assert await log.decide(own, ending("aborted")) == Reply("ok", state="aborted")
    assert await log.decide(own, ending("done")) == Reply("ok", state="aborted")
    assert (await seen(log, ref)).decided == "aborted"
    assert await append(log, own, 3, "a") == Reply("ok", 3)
    assert await log.finish(own, 4, ending("done")) == Reply("ok", 4, state="aborted")
    assert (await payloads(log, ref))[-1] == ending("aborted").end
    assert await log.final(ref) == ending("aborted").final


async def test_an_end_is_reported_as_it_is_stored(link: Link, ref: MessageRef) -> None:
    """Not as its writer meant it: an earlier decision may stand in its place."""
    told: list[tuple[str, bytes]] = []

    async def on_end(_: MessageRef, state: str, final: bytes) -> None:
        told.append((state, final))

    log = Log(link, Retention(), on_end=on_end)
    own = await started(log, ref)
    await log.decide(own, ending("done"))
    await run_out(link, ref)
    await log.force(await seen(log, ref), ending("failed"))
    assert told == [("done", ending("done").final)]
    await log.force(await seen(log, ref), ending("failed"))
    assert len(told) == 1


async def test_a_finish_repeated_after_a_delete_reports_nothing(link: Link, ref: MessageRef) -> None:
    told: list[str] = []

    async def on_end(_: MessageRef, state: str, final: bytes) -> None:
        told.append(state)

    log = Log(link, Retention(), on_end=on_end)
    own = await started(log, ref)
    await log.finish(own, 3, ending("done"))
    await log.delete(ref)
    assert (await log.finish(own, 3, ending("done"))).state == "deleted"
    assert told == ["done"]


async def test_that_somebody_got_the_end_is_noted_once_there_is_one(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await log.tell(ref)
    assert not (await seen(log, ref)).told
    await log.finish(own, 3, ending())
    await log.tell(ref)
    await log.tell(ref)
    assert (await seen(log, ref)).told
    await link.call("DEL", log_keys(ref).meta)
    await log.tell(ref)
    assert await link.call("EXISTS", log_keys(ref).meta) == 0


async def test_only_the_owner_decides(log: Log, ref: MessageRef, link: Link) -> None:
    zombie = await started(log, ref)
    await run_out(link, ref)
    own = await claim(log, ref, seen=1)
    assert await log.decide(zombie, ending("failed")) == Reply("fenced", state="running", epoch=own.epoch)
    await log.finish(own, 4, ending("done"))
    assert await log.decide(own, ending("failed")) == Reply("final", state="done")
    assert (await log.decide(replace(own, ref=replace(ref, message_id="none")), ending())).status == "gone"
