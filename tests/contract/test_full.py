"""A Redis that is out of memory: nothing new begins, everything that runs can still be ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import StorageFull
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Reply
from tests.support.log import append, create, ending, full, lose_everything, payloads, run_out, seen, started, try_claim


async def test_a_full_redis_creates_nothing_at_all(log: Log, ref: MessageRef, link: Link) -> None:
    for policy in ("single", "replace", "parallel"):
        async with full(link):
            with pytest.raises(StorageFull):
                await create(log, ref, policy=policy)
        assert await link.call("KEYS", "*") == []


async def test_a_full_redis_claims_and_appends_nothing(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    queued = replace(ref, chat_id="other")
    await create(log, queued)
    async with full(link):
        with pytest.raises(StorageFull):
            await append(log, own, 3, "a")
        with pytest.raises(StorageFull):
            await try_claim(log, queued)
    assert len(await payloads(log, ref)) == 2
    assert (await seen(log, queued)).state == "queued"
    assert await append(log, own, 3, "a") == Reply("ok", 3)


async def test_a_full_redis_still_keeps_leases(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref, lease_ms=5_000)
    async with full(link):
        assert await append(log, own, 3, lease_ms=500_000) == Reply("ok", 2)
    assert (await seen(log, ref)).lease_until > (await seen(log, ref)).now + 400_000


async def test_a_full_redis_still_ends_messages(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    decided, forced, deleted = (replace(ref, chat_id=name) for name in ("decided", "forced", "deleted"))
    decider = await started(log, decided)
    await started(log, forced)
    await run_out(link, forced)
    meta = await seen(log, forced)
    await started(log, deleted)
    async with full(link):
        assert (await log.finish(own, 3, ending("failed"))).status == "ok"
        assert (await log.decide(decider, ending("done"))).status == "ok"
        assert (await log.finish(decider, 3, ending("done"))).status == "ok"
        assert (await log.force(meta, ending("failed"))).status == "ok"
        assert await log.delete(deleted)
        await log.tell(ref)
    for each, state in ((ref, "failed"), (decided, "done"), (forced, "failed"), (deleted, "deleted")):
        assert (await seen(log, each)).state == state
        assert await log.active(each.tenant, each.chat_id) is None


async def test_a_full_redis_still_hears_a_stop_and_takes_a_release(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    async with full(link):
        assert (await log.stop(ref)).status == "stopping"
        assert (await log.release(own)).status == "ok"
    assert (await seen(log, ref)).stop == "user"


async def test_a_full_redis_still_lets_the_reapers_work(log: Log, ref: MessageRef, link: Link) -> None:
    await log.watch(ref, 0)
    async with full(link):
        assert await log.overdue(10, 0) == [ref]
        await log.watch(ref, 60_000)
    assert await log.overdue(10, 0) == []


async def test_a_full_redis_restores_a_message_whole_or_not_at_all(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    backup = await log.backup(ref)
    entries = await log.read_all(ref)
    assert backup is not None
    await lose_everything(link)
    async with full(link):
        with pytest.raises(StorageFull):
            await log.restore(own, backup, entries, lease_ms=1000, channel="w")
    assert await link.call("EXISTS", log_keys(ref).meta, log_keys(ref).stream) == 0
    assert (await log.restore(own, backup, entries, lease_ms=1000, channel="w")).status == "ok"
