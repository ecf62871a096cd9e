"""One directed test for each hole that a model check found in the protocol's first draft; each fails without its mend.

Where a mend is kept by readers or by the worker, the log's share of it is tested here and the test says
who keeps the rest.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import DUE, log_keys
from shared.log.log import Log
from shared.log.types import Backup, NotClaimed, Reply, Retention
from tests.support.log import (
    LEASE_MS,
    Failover,
    Listener,
    append,
    claim,
    create,
    ending,
    entry,
    lose_everything,
    marker,
    payloads,
    run_out,
    seen,
    started,
    text,
    try_claim,
)

CHANNEL = "tr:worker:w"


async def backup_of(log: Log, ref: MessageRef) -> Backup:
    backup = await log.backup(ref)
    assert backup is not None
    return backup


async def test_1_an_end_is_written_although_its_seq_was_taken_by_an_entry_whose_reply_was_lost(
    log: Log, ref: MessageRef
) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b")  # the worker never hears that these landed, and drops them
    assert await log.finish(own, 3, ending("failed")) == Reply("ok", 5, state="failed")
    assert (await payloads(log, ref))[2:] == [text("a"), text("b"), ending("failed").end]
    assert (await log.read_all(ref))[-1].is_end


async def test_2_an_end_that_was_told_and_then_lost_is_not_replaced_by_another(
    log: Log, ref: MessageRef, link: Link
) -> None:
    own = await started(log, ref)
    replica = Failover(link)
    await log.decide(own, ending("done"))
    await replica.replicate()
    await log.finish(own, 3, ending("done"))  # viewers are told: done
    await replica.promote()
    await run_out(link, ref)
    assert await try_claim(log, ref, seen=1) == NotClaimed("decided")
    assert (await log.force(await seen(log, ref), ending("failed"))).state == "done"
    assert (await payloads(log, ref))[-1] == ending("done").end
    assert await log.final(ref) == ending("done").final


async def test_2_without_replicas_the_final_message_is_stored_with_the_end(
    log: Log, ref: MessageRef, link: Link
) -> None:
    zombie = await started(log, ref)
    await run_out(link, ref)
    own = await claim(log, ref, seen=1)
    await log.finish(own, 4, ending("done"))
    assert await log.final(ref) == ending("done").final
    await log.finish(zombie, 3, ending("failed"))
    assert await log.final(ref) == ending("done").final


async def test_2_a_log_that_waits_for_replicas_says_so_and_does_not_wait_for_ever(link: Link, ref: MessageRef) -> None:
    log = Log(link, Retention(), replicas=1)  # there is none: every WAIT takes its 200 ms
    assert log.waits_for_replicas
    own = await started(log, ref)
    assert (await log.decide(own, ending())).status == "ok"
    assert (await log.finish(own, 3, ending())).status == "ok"


async def test_3_a_batch_names_the_id_before_it_so_that_a_stale_one_does_not_fit(
    log: Log, ref: MessageRef, link: Link, redis_url: str
) -> None:
    """The gateway takes a batch only if `prev` is its cursor (its own tests); here: two branches never fit together."""
    own = await started(log, ref)
    await append(log, own, 3, "a")
    replica = Failover(link)
    await replica.replicate()
    async with Listener(redis_url, log_keys(ref).stream) as viewer:
        await append(log, own, 4, "lost branch")
        await append(log, own, 5, "lost branch")
        await replica.promote()
        await run_out(link, ref)
        await claim(log, ref, seen=1)
        heads = [batch.split(b"\n")[0].split(b" ") for batch in await viewer.heard()]
    lost_first, lost_second, kept = heads
    assert lost_first[0] == kept[0]  # both follow entry 3
    assert lost_first[1] == lost_second[0]  # the lost branch's own chain
    assert kept[1].endswith(b"-4")
    assert lost_second[0] != kept[1]  # so the second lost batch does not fit behind the new marker


async def test_3_a_read_from_a_lost_cursor_does_not_begin_with_it(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    replica = Failover(link)
    await replica.replicate()
    await append(log, own, 3, "lost")
    cursor = (await log.read_all(ref))[-1].cursor
    await replica.promote()
    await run_out(link, ref)
    own = await claim(log, ref, seen=1)
    await append(log, own, 4, "new")
    rows = await log.read(ref, cursor)
    assert rows[0].cursor != cursor


async def test_4_a_zombies_restore_after_total_loss_does_not_shut_out_the_owner(
    log: Log, ref: MessageRef, link: Link
) -> None:
    zombie = await started(log, ref)
    zombies = await log.read_all(ref)
    backup = await backup_of(log, ref)
    await run_out(link, ref)
    own = await claim(log, ref, seen=1)
    await append(log, own, 4, "a")
    entries = await log.read_all(ref)
    await lose_everything(link)
    assert (await log.restore(zombie, backup, zombies, lease_ms=LEASE_MS, channel=CHANNEL)).status == "ok"
    reply = await append(log, own, 5, "b")
    assert reply == Reply("fenced", state="running", epoch=zombie.epoch)
    assert reply.epoch < own.epoch  # how the owner knows that it is not the one who was replaced
    assert await log.restore(own, backup, entries, lease_ms=LEASE_MS, channel=CHANNEL) == Reply("ok", 4)
    assert (await append(log, zombie, 3, "ghost")).status == "fenced"
    assert await log.read_all(ref) == entries


async def test_5_the_reaper_does_not_kill_a_message_that_was_just_released(
    log: Log, ref: MessageRef, link: Link
) -> None:
    own = await started(log, ref)
    await run_out(link, ref)
    doomed = await seen(log, ref)  # the reaper: expired, and no attempt left
    await log.release(own)
    assert (await seen(log, ref)).epoch == doomed.epoch
    assert (await log.force(doomed, ending("failed"))).status == "moved"
    assert (await claim(log, ref)).attempt == 1


async def test_6_between_loss_and_restore_nothing_says_that_the_message_is_over(
    log: Log, ref: MessageRef, link: Link
) -> None:
    """So a reader with a cursor waits before it says 410 (the gateway's tests); a deleted one is over at once."""
    await started(log, ref)
    await lose_everything(link)
    assert (await log.meta(ref), await log.tombstone(ref)) == (None, None)
    deleted = replace(ref, chat_id="other")
    await create(log, deleted)
    await log.delete(deleted)
    await link.call("DEL", log_keys(deleted).meta)
    assert (await log.meta(deleted), await log.tombstone(deleted)) == (None, "ann")


async def test_7_the_record_names_the_end_that_the_link_dropped(log: Log, ref: MessageRef) -> None:
    """Looked at before the log when the link is silent (the gateway's tests): what it names is readable by then."""
    own = await started(log, ref)
    await append(log, own, 3, "a")
    position = (await seen(log, ref)).cursor
    await log.finish(own, 4, ending())  # nobody hears it
    meta = await seen(log, ref)
    assert meta.terminal
    assert meta.cursor != position
    rows = await log.read(ref, position)
    assert (rows[0].cursor, rows[-1].cursor, rows[-1].is_end) == (position, meta.cursor, True)


@pytest.mark.parametrize("step", ["claim", "force"])
async def test_8_epochs_do_not_repeat_when_the_clock_is_behind(
    log: Log, ref: MessageRef, link: Link, step: str
) -> None:
    await create(log, ref)
    meta = await seen(log, ref)
    ahead = meta.epoch + 3_600_000_000  # the clock has stepped back by an hour since
    await link.call("HSET", log_keys(ref).meta, "ep", ahead)
    await link.call("DEL", log_keys(ref).stream)
    await link.call("XADD", log_keys(ref).stream, f"{ahead}-1", "d", "x")
    replica = Failover(link)
    await replica.replicate()
    epochs = set()
    for _ in range(8):
        await replica.promote()
        if step == "claim":
            epochs.add((await claim(log, ref)).epoch)
        else:
            await log.force(await seen(log, ref), ending("aborted"))
            epochs.add((await seen(log, ref)).epoch)
    assert min(epochs) > ahead
    assert len(epochs) > 1  # eight times one of a thousand numbers


async def test_9_a_lost_stream_is_rebuilt_by_its_owner(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a")
    entries = await log.read_all(ref)
    backup = await backup_of(log, ref)
    await link.call("DEL", log_keys(ref).stream)
    assert await append(log, own, 4, "b") == Reply("lost")
    assert await log.restore(own, backup, entries, lease_ms=LEASE_MS, channel=CHANNEL) == Reply("ok", 3)
    assert await append(log, own, 4, "b") == Reply("ok", 4)
    assert (await log.read_all(ref))[:3] == entries


async def test_9_a_lost_stream_without_an_owner_ends(log: Log, ref: MessageRef, link: Link) -> None:
    await started(log, ref)
    await run_out(link, ref)
    await link.call("DEL", log_keys(ref).stream)
    reply = await try_claim(log, ref, seen=1)
    assert isinstance(reply, NotClaimed)
    assert (reply.reason, reply.needs_force) == ("lost", True)
    assert await log.force(await seen(log, ref), ending("failed")) == Reply("ok", 3, state="failed")
    entries = await log.read_all(ref)
    assert [(each.cursor.seq, each.is_end) for each in entries] == [(3, True)]  # a log may begin with its end
    assert await log.active(ref.tenant, ref.chat_id) is None


async def test_9_nobody_elses_restore_rebuilds_a_lost_stream(log: Log, ref: MessageRef, link: Link) -> None:
    zombie = await started(log, ref)
    zombies = await log.read_all(ref)
    backup = await backup_of(log, ref)
    await run_out(link, ref)
    await claim(log, ref, seen=1)
    await link.call("DEL", log_keys(ref).stream)
    reply = await log.restore(zombie, backup, zombies, lease_ms=LEASE_MS, channel=CHANNEL)
    assert reply.status == "fenced"
    assert await log.read_all(ref) == []


async def test_10_a_restore_yields_to_a_message_created_since_the_loss(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    entries = await log.read_all(ref)
    backup = await backup_of(log, ref)
    await lose_everything(link)
    successor = replace(ref, message_id="successor")
    await create(log, successor)
    reply = await log.restore(own, backup, entries, lease_ms=LEASE_MS, channel=CHANNEL)
    assert reply == Reply("busy", state="successor")
    assert await log.meta(ref) is None
    assert await log.active(ref.tenant, ref.chat_id) == "successor"
    assert await log.in_flight(ref.tenant, ref.chat_id) == ["successor"]
    await log.force(await seen(log, successor), ending("aborted"))
    assert (await log.restore(own, backup, entries, lease_ms=LEASE_MS, channel=CHANNEL)).status == "ok"


async def test_11_a_reaper_that_dies_with_its_catch_loses_nothing(log: Log, ref: MessageRef) -> None:
    await log.watch(ref, 0)
    assert await log.overdue(10, 0) == [ref]
    assert await log.overdue(10, 0) == [ref]


async def test_11_the_index_is_kept_or_lost_together_with_the_log(log: Log, ref: MessageRef, link: Link) -> None:
    """CLAIM, RESTORE and the heartbeat have their worker watch the message again (the worker's tests)."""
    await log.watch(ref, 60_000)
    await create(log, ref)
    replica = Failover(link)
    await replica.replicate()
    await lose_everything(link)
    assert (await log.meta(ref), await link.call("ZCARD", DUE)) == (None, 0)
    await replica.promote()
    assert (await seen(log, ref)).state == "queued"
    assert await link.call("ZSCORE", DUE, ref.member) is not None


async def test_the_repair_is_exact(log: Log, ref: MessageRef, link: Link) -> None:
    """A failover keeps a prefix; the owner sends the rest again from memory and the log is as it was."""
    own = await started(log, ref)
    await append(log, own, 3, "a", "b")
    replica = Failover(link)
    await replica.replicate()
    await append(log, own, 5, "c", "d")
    before = await log.read_all(ref)
    await replica.promote()
    assert await append(log, own, 7, "e") == Reply("gap", 4)
    assert await append(log, own, 5, "c", "d", "e") == Reply("ok", 7)
    assert await log.read_all(ref) == [*before, entry(own.epoch, 7, "e")]
    assert before[1].raw == marker(1)
