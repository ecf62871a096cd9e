"""RESTORE: what Redis lost comes back from the owner's memory, and nobody else's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import last_key, log_keys
from shared.log.log import Log
from shared.log.types import Backup, Entry, Meta, Ownership, Reply
from tests.support.log import (
    LEASE_MS,
    Failover,
    Listener,
    append,
    claim,
    create,
    ending,
    lose_everything,
    run_out,
    seen,
)


@dataclass
class Owner:
    """A worker's memory of a message it owns."""

    log: Log
    own: Ownership
    backup: Backup
    entries: list[Entry]

    async def restore(self) -> Reply:
        return await self.log.restore(self.own, self.backup, self.entries, lease_ms=LEASE_MS, channel="tr:worker:w")


Own = Callable[..., Awaitable[Owner]]


@pytest.fixture
def owner(log: Log) -> Own:
    """Make the owner of a running message: entries 1, 2 and what it says."""

    async def make(ref: MessageRef, *texts: str, policy: str = "single", seen: int = 0) -> Owner:
        if seen == 0:
            await create(log, ref, policy=policy)  # type: ignore[arg-type]  # one of the three
        own = await claim(log, ref, seen=seen)
        backup = await log.backup(ref)
        assert backup is not None
        await append(log, own, own.marker_seq + 1, *texts)
        return Owner(log, own, backup, await log.read_all(ref))

    return make


def identity(meta: Meta) -> tuple[object, ...]:
    """Return what must be the same again after a restore."""
    return (meta.state, meta.cursor, meta.attempts, meta.worker, meta.user, meta.born, meta.deadline)


async def test_a_lost_message_comes_back_under_its_own_ids(log: Log, ref: MessageRef, link: Link, owner: Own) -> None:
    writer = await owner(ref, "a", "b")
    before = await seen(log, ref)
    await lose_everything(link)
    assert (await append(log, writer.own, 5, "c")).status == "gone"
    assert await writer.restore() == Reply("ok", 4)
    after = await seen(log, ref)
    assert identity(after) == identity(before)
    assert after.leased
    assert await log.read_all(ref) == writer.entries
    assert await log.backup(ref) == writer.backup
    assert await log.active(ref.tenant, ref.chat_id) == ref.message_id
    assert await log.in_flight(ref.tenant, ref.chat_id) == [ref.message_id]
    assert await append(log, writer.own, 5, "c") == Reply("ok", 5)
    for key in (log_keys(ref).meta, log_keys(ref).stream, log_keys(ref).active, log_keys(ref).live):
        assert await link.call("PTTL", key) > 0, key


async def test_a_restore_tells_its_last_id_to_waiting_viewers(
    ref: MessageRef, link: Link, owner: Own, redis_url: str
) -> None:
    writer = await owner(ref, "a")
    await lose_everything(link)
    async with Listener(redis_url, log_keys(ref).stream) as viewer:
        await writer.restore()
        assert await viewer.heard() == [str(writer.entries[-1].cursor).encode()]


async def test_a_restore_of_what_is_there_changes_nothing(log: Log, ref: MessageRef, owner: Own) -> None:
    writer = await owner(ref, "a")
    await append(log, writer.own, 4, "b")
    assert await writer.restore() == Reply("ok", 4)
    assert len(await log.read_all(ref)) == 4


async def test_a_restore_of_an_ended_message_is_final(log: Log, ref: MessageRef, owner: Own) -> None:
    writer = await owner(ref, "a")
    await log.finish(writer.own, 4, ending())
    assert await writer.restore() == Reply("final", state="done")


async def test_a_zombies_restore_does_not_touch_the_owners_log(
    log: Log, ref: MessageRef, link: Link, owner: Own
) -> None:
    zombie = await owner(ref, "a")
    await run_out(link, ref)
    writer = await owner(ref, "b", seen=1)
    assert await zombie.restore() == Reply("fenced", state="running", epoch=writer.own.epoch)
    assert await log.read_all(ref) == writer.entries


async def test_a_restore_overrules_a_lower_epoch_that_a_failover_brought_back(
    log: Log, ref: MessageRef, link: Link, owner: Own
) -> None:
    zombie = await owner(ref, "a")
    replica = Failover(link)
    await replica.replicate()
    await run_out(link, ref)
    writer = await owner(ref, "b", seen=1)
    await replica.promote()  # the second claim is lost
    reply = await append(log, writer.own, 6, "c")
    assert (reply.status, reply.epoch) == ("fenced", zombie.own.epoch)
    assert await writer.restore() == Reply("ok", 5)
    assert await log.read_all(ref) == writer.entries
    assert (await append(log, zombie.own, 4, "ghost")).status == "fenced"


async def test_a_restore_that_overrules_keeps_the_wish_to_stop(
    log: Log, ref: MessageRef, link: Link, owner: Own
) -> None:
    await owner(ref, "a")
    await log.stop(ref)
    replica = Failover(link)
    await replica.replicate()
    await link.call("HDEL", log_keys(ref).meta, "stop")
    await run_out(link, ref)
    writer = await owner(ref, seen=1)
    await replica.promote()
    await writer.restore()
    assert (await seen(log, ref)).stop == "user"


async def test_parallel_messages_are_all_restored(log: Log, ref: MessageRef, link: Link, owner: Own) -> None:
    writers = [await owner(replace(ref, message_id=f"m{n}"), "a", policy="parallel") for n in range(3)]
    await lose_everything(link)
    for writer in (writers[1], writers[2], writers[0]):
        assert (await writer.restore()).status == "ok"
    assert await log.in_flight(ref.tenant, ref.chat_id) == ["m0", "m1", "m2"]
    assert await log.active(ref.tenant, ref.chat_id) == "m2"


@pytest.mark.parametrize("order", ["old first", "new first"])
async def test_of_a_replaced_message_and_its_successor_the_successor_is_restored(
    log: Log, ref: MessageRef, link: Link, owner: Own, order: str
) -> None:
    old = await owner(ref, "a")
    new = await owner(replace(ref, message_id="new"), "b", policy="replace")
    await lose_everything(link)
    if order == "old first":
        assert (await old.restore()).status == "ok"
        assert (await new.restore()).status == "ok"
        assert (await append(log, old.own, 4, "c")).stop == "replaced"
    else:
        assert (await new.restore()).status == "ok"
        assert await old.restore() == Reply("busy", state="new")
    assert await log.active(ref.tenant, ref.chat_id) == "new"
    assert await log.read_all(new.own.ref) == new.entries


async def test_a_restore_beside_a_younger_active_message_leaves_the_pointer(
    log: Log, ref: MessageRef, link: Link, owner: Own
) -> None:
    old = await owner(ref, "a", policy="parallel")
    await create(log, replace(ref, message_id="new"), policy="parallel")
    await link.call("DEL", log_keys(ref).stream)
    assert (await old.restore()).status == "ok"
    assert await log.active(ref.tenant, ref.chat_id) == "new"


async def test_a_long_log_is_restored_whole(log: Log, ref: MessageRef, link: Link, owner: Own) -> None:
    writer = await owner(ref, *(str(n) for n in range(2500)))
    await lose_everything(link)
    assert await writer.restore() == Reply("ok", 2502)
    assert await log.read_all(ref) == writer.entries


async def test_the_chats_latest_message_is_known_again_and_outlives_its_end(
    log: Log, ref: MessageRef, link: Link, owner: Own
) -> None:
    writer = await owner(ref, "a")
    assert await log.latest(ref.tenant, ref.chat_id) == ref.message_id
    await lose_everything(link)
    assert await log.latest(ref.tenant, ref.chat_id) is None
    assert (await writer.restore()).status == "ok"
    assert await log.latest(ref.tenant, ref.chat_id) == ref.message_id
    await log.finish(writer.own, 4, ending())
    assert await log.latest(ref.tenant, ref.chat_id) == ref.message_id
    left = await link.call("PTTL", last_key(ref.tenant, ref.chat_id))
    assert left >= await link.call("PTTL", log_keys(ref).meta)


async def test_of_two_restored_messages_the_younger_is_the_latest_whoever_comes_first(
    log: Log, ref: MessageRef, link: Link, owner: Own
) -> None:
    older = await owner(ref, "a", policy="parallel")
    second = replace(ref, message_id="second")
    younger = await owner(second, "b", policy="parallel")
    for order in ((older, younger), (younger, older)):
        await lose_everything(link)
        for one in order:
            assert (await one.restore()).status == "ok"
        assert await log.latest(ref.tenant, ref.chat_id) == "second"


async def test_a_restore_beside_a_younger_message_that_has_ended_leaves_the_latest(
    log: Log, ref: MessageRef, link: Link, owner: Own
) -> None:
    older = await owner(ref, "a", policy="parallel")
    await lose_everything(link)
    second = replace(ref, message_id="second")
    younger = await owner(second, "b", policy="parallel")
    await log.finish(younger.own, 4, ending())
    assert (await older.restore()).status == "ok"
    assert await log.latest(ref.tenant, ref.chat_id) == "second"
