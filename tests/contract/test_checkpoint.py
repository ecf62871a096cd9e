"""CHECKPOINT: segments by number, from the owner alone, beside the log and never ahead of it; gone when the log is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import StorageFull
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Reply, Retention, new_token
from tests.support.log import (
    Failover,
    Listener,
    append,
    checkpoint,
    claim,
    created,
    ending,
    full,
    run_out,
    seen,
    segment_of,
    segments_of,
    started,
)


async def test_segments_come_back_as_they_were_stored(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b", "c")
    assert await log.segments(ref) == []
    await checkpoint(log, own, 2, 4)
    assert await log.segments(ref) == segments_of(await log.read_all(ref), 2, 4)


async def test_a_repeated_checkpoint_says_the_same_and_stores_nothing_twice(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    first = segment_of(await log.read_all(ref))
    for _ in range(2):
        assert await log.checkpoint(own, 0, first) == Reply("ok", 1)
    assert await log.segments(ref) == [first]


async def test_a_segment_takes_the_place_of_all_from_its_number_on(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b", "c")
    await checkpoint(log, own, 2, 3, 4)
    entries = await log.read_all(ref)
    first, second = segments_of(entries, 2, 5)
    assert await log.checkpoint(own, 1, second) == Reply("ok", 2)
    assert await log.segments(ref) == [first, second]
    assert await link.call("LLEN", log_keys(ref).segments) == 2


async def test_a_missing_segment_is_a_gap_and_the_reply_names_how_many_there_are(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a")
    _, second = segments_of(await log.read_all(ref), 2, 3)
    assert await log.checkpoint(own, 1, second) == Reply("gap", 0)
    assert await log.segments(ref) == []


async def test_a_segment_that_the_log_does_not_reach_is_a_gap(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    replica = Failover(link)
    await replica.replicate()
    await append(log, own, 3, "a")
    beyond = segment_of(await log.read_all(ref))
    await replica.promote()
    assert await log.checkpoint(own, 0, beyond) == Reply("gap", 0)
    assert await log.segments(ref) == []


async def test_only_the_owner_stores_segments(log: Log, ref: MessageRef, link: Link) -> None:
    zombie = await started(log, ref)
    first = segment_of(await log.read_all(ref))
    for stranger in (replace(zombie, token=new_token()), replace(zombie, epoch=zombie.epoch + 1)):
        assert (await log.checkpoint(stranger, 0, first)).status == "fenced"
    await run_out(link, ref)
    own = await claim(log, ref, seen=1)
    assert await log.checkpoint(zombie, 0, first) == Reply("fenced", state="running", epoch=own.epoch)
    await log.release(own)
    assert (await log.checkpoint(own, 0, first)).status == "fenced"
    assert await log.segments(ref) == []


async def test_the_next_owner_goes_on_behind_the_last_segment(log: Log, ref: MessageRef, link: Link) -> None:
    await checkpoint(log, await started(log, ref), 2)
    await run_out(link, ref)
    own = await claim(log, ref, seen=1)
    both = segments_of(await log.read_all(ref), 2, 3)
    assert await log.checkpoint(own, 1, both[1]) == Reply("ok", 2)
    assert await log.segments(ref) == both


async def test_a_lost_message_or_stream_takes_no_segment(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    first, keys = segment_of(await log.read_all(ref)), log_keys(ref)
    await link.call("DEL", keys.stream)
    assert await log.checkpoint(own, 0, first) == Reply("lost")
    await link.call("DEL", keys.meta)
    assert await log.checkpoint(own, 0, first) == Reply("gone")
    assert await link.call("EXISTS", keys.segments) == 0


async def test_nothing_is_stored_after_the_end(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    first = segment_of(await log.read_all(ref))
    await log.finish(own, 3, ending())
    assert await log.checkpoint(own, 0, first) == Reply("final", state="done")
    await log.delete(ref)
    assert await log.checkpoint(own, 0, first) == Reply("final", state="deleted")
    assert await log.segments(ref) == []


async def test_a_checkpoint_tells_nobody_and_renews_no_lease(log: Log, ref: MessageRef, redis_url: str) -> None:
    own = await started(log, ref)
    before = await seen(log, ref)
    async with Listener(redis_url, log_keys(ref).stream) as viewer:
        await checkpoint(log, own, 2)
        assert await viewer.heard() == []
    after = await seen(log, ref)
    assert (after.lease_until, after.cursor) == (before.lease_until, before.cursor)


async def test_a_full_redis_refuses_a_segment_and_keeps_those_there_are(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b")
    await checkpoint(log, own, 2, 3)
    before, entries = await log.segments(ref), await log.read_all(ref)
    async with full(link):
        for number, segment in ((2, segment_of(entries[3:], entries[2].cursor)), (0, segment_of(entries))):
            with pytest.raises(StorageFull):
                await log.checkpoint(own, number, segment)
        assert await append(log, own, 5) == Reply("ok", 4)
    assert await log.segments(ref) == before


async def test_segments_live_as_long_as_the_stream(link: Link, ref: MessageRef) -> None:
    log = Log(link, Retention(50_000, 10_000, 20_000, 30_000))
    own = await started(log, ref)
    keys = log_keys(ref)

    async def lives() -> list[int]:
        return [await link.call("PTTL", key) for key in (keys.stream, keys.segments)]

    await link.call("PEXPIRE", keys.stream, 5_000)
    await checkpoint(log, own, 2)
    assert all(0 < life <= 5_000 for life in await lives())
    await log.append(own, 3, (), lease_ms=60_000, renew_ttl=False, deadline_s=5)
    assert all(0 < life <= 5_000 for life in await lives())
    await log.append(own, 3, (), lease_ms=60_000, renew_ttl=True, deadline_s=5)
    assert all(45_000 < life <= 50_000 for life in await lives())
    await log.finish(own, 3, ending())
    assert all(5_000 < life <= 10_000 for life in await lives())


async def test_a_forced_end_begins_the_same_period_for_both(link: Link, ref: MessageRef) -> None:
    log = Log(link, Retention(50_000, 10_000, 20_000, 30_000))
    await checkpoint(log, await started(log, ref), 2)
    await run_out(link, ref)
    await log.force(await seen(log, ref), ending("failed"))
    for key in (log_keys(ref).stream, log_keys(ref).segments):
        assert 5_000 < await link.call("PTTL", key) <= 10_000


async def test_a_deleted_message_has_no_segments(log: Log, ref: MessageRef, link: Link) -> None:
    await checkpoint(log, await started(log, ref), 2)
    await log.delete(ref)
    assert await link.call("EXISTS", log_keys(ref).segments) == 0


async def test_a_new_message_has_none_of_an_old_ones(log: Log, ref: MessageRef, link: Link) -> None:
    await checkpoint(log, await started(log, ref), 2)
    await link.call("DEL", log_keys(ref).meta, log_keys(ref).active)
    await created(log, ref)
    assert await log.segments(ref) == []


async def test_a_restore_drops_them_because_they_may_be_of_another_branch(
    log: Log, ref: MessageRef, link: Link
) -> None:
    own = await started(log, ref)
    backup, entries = await log.backup(ref), await log.read_all(ref)
    assert backup is not None
    await checkpoint(log, own, 2)
    await link.call("DEL", log_keys(ref).stream)
    assert (await log.restore(own, backup, entries, lease_ms=60_000, channel="w")).status == "ok"
    assert await log.segments(ref) == []
