"""DELETE forgets for good; RELEASE hands back without a cost."""

from __future__ import annotations

import pytest

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import MOST_REFUNDS, Log
from shared.log.types import Reply
from tests.support.log import Listener, append, claim, create, ending, run_out, seen, started


@pytest.mark.parametrize("phase", ["queued", "running", "done"])
async def test_a_deleted_message_keeps_nothing_of_its_content(
    log: Log, ref: MessageRef, link: Link, phase: str
) -> None:
    await create(log, ref)
    if phase != "queued":
        own = await claim(log, ref)
        await append(log, own, 3, "secret")
        if phase == "done":
            await log.finish(own, 4, ending())
    assert await log.delete(ref)
    assert (await seen(log, ref)).state == "deleted"
    assert (await log.request(ref), await log.final(ref), await log.read_all(ref)) == (None, None, [])
    assert await log.active(ref.tenant, ref.chat_id) is None
    assert await log.in_flight(ref.tenant, ref.chat_id) == []
    assert await log.tombstone(ref) == "ann"
    record = await link.call("HGETALL", log_keys(ref).meta)
    assert b"secret" not in b" ".join(record)


async def test_a_delete_wakes_the_worker_and_tells_the_viewers(log: Log, ref: MessageRef, redis_url: str) -> None:
    await started(log, ref, channel="tr:worker:one")
    async with Listener(redis_url, "tr:worker:one") as worker, Listener(redis_url, log_keys(ref).stream) as viewer:
        await log.delete(ref)
        assert await worker.heard() == [ref.message_id.encode()]
        assert await viewer.heard() == [b"deleted"]


async def test_a_delete_forgets_a_decision(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await log.decide(own, ending("done"))
    await log.delete(ref)
    assert (await seen(log, ref)).decided is None
    assert not {b"ofin", b"oend"} & set(await link.call("HKEYS", log_keys(ref).meta))


async def test_the_second_delete_finds_nothing(log: Log, ref: MessageRef) -> None:
    assert not await log.delete(ref)
    await create(log, ref)
    assert await log.delete(ref)
    assert not await log.delete(ref)


async def test_nothing_brings_a_deleted_message_back(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    backup = await log.backup(ref)
    assert backup is not None
    entries = await log.read_all(ref)
    await log.delete(ref)
    assert await log.restore(own, backup, entries, lease_ms=1000, channel="w") == Reply("final", state="deleted")
    await link.call("DEL", log_keys(ref).meta)  # the record's period is over, the tombstone's is not
    assert await log.restore(own, backup, entries, lease_ms=1000, channel="w") == Reply("final", state="deleted")
    assert await link.call("EXISTS", log_keys(ref).stream, log_keys(ref).meta) == 0


async def test_a_released_message_is_claimed_at_once_and_pays_no_attempt(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a")
    assert await log.release(own) == Reply("ok")
    meta = await seen(log, ref)
    assert (meta.state, meta.attempts, meta.drained, meta.leased, meta.worker) == ("queued", 0, True, False, "")
    assert await log.active(ref.tenant, ref.chat_id) == ref.message_id
    again = await claim(log, ref, most=1)
    assert (again.attempt, again.marker_seq) == (1, 4)


async def test_a_release_without_a_refund_costs_the_attempt(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    assert await log.release(own, refund=False) == Reply("ok")
    meta = await seen(log, ref)
    assert (meta.state, meta.attempts, meta.drained) == ("queued", 1, True)


async def test_refunds_run_out(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    for _ in range(MOST_REFUNDS):
        await log.release(own)
        assert (await seen(log, ref)).attempts == 0
        own = await claim(log, ref)
    await log.release(own)
    assert (await seen(log, ref)).attempts == 1


async def test_after_a_release_the_former_owner_writes_nothing(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await log.release(own)
    assert await append(log, own, 3, "ghost") == Reply("fenced", state="queued", epoch=own.epoch)
    assert (await log.finish(own, 3, ending())).status == "fenced"


async def test_only_the_owner_releases(log: Log, ref: MessageRef, link: Link) -> None:
    zombie = await started(log, ref)
    await run_out(link, ref)
    own = await claim(log, ref, seen=1)
    assert await log.release(zombie) == Reply("fenced", state="running", epoch=own.epoch)
    assert (await seen(log, ref)).state == "running"


async def test_release_of_what_is_gone(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await link.call("DEL", log_keys(ref).meta)
    assert await log.release(own) == Reply("gone")
    assert await link.call("EXISTS", log_keys(ref).meta) == 0
