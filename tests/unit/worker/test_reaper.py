"""What the reaper decides, and what it does about it on a real Redis."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.ids import MessageRef
from shared.jobs import QUEUE_NAME
from shared.link import Link
from shared.log.ending import end_unowned, failure
from shared.log.keys import DUE, log_keys
from shared.log.log import Log
from shared.log.types import Meta
from shared.message import decode_message
from tests.support.log import append, claim, created, lose_everything, run_out, seen, started
from tests.support.wait import wait_until
from worker.metrics import Metrics
from worker.reaper import Reaper, judge, pause_ms
from worker.settings import WorkerSettings

SETTINGS = WorkerSettings(queue_timeout_s=10, max_attempts=3)
NOW = 1_700_000_000_000
META = Meta(
    MessageRef("t", "c", "m"),
    "running",
    1,
    5,
    1,
    NOW - 1,
    "w",
    None,
    "ann",
    NOW - 5_000,
    NOW + 60_000,
    None,
    False,
    NOW,
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"stop": "user"}, ("aborted", "")),
        ({"stop": "user", "attempts": 3, "deadline": NOW}, ("aborted", "")),
        ({"deadline": NOW}, ("failed", "deadline_exceeded")),
        ({"attempts": 3}, ("failed", "worker_lost")),
        ({"decided": "done"}, ("failed", "worker_lost")),
        ({"state": "queued", "attempts": 0, "born": NOW - 9_000}, None),
        ({"state": "queued", "attempts": 0, "born": NOW - 11_000}, ("failed", "queue_timeout")),
        ({"state": "queued", "attempts": 0, "born": NOW - 11_000, "drained": True}, None),
        ({"state": "queued", "attempts": 1, "born": NOW - 11_000}, None),
    ],
)
def test_how_a_message_that_nobody_owns_must_end(change: dict[str, Any], expected: tuple[str, str] | None) -> None:
    verdict = judge(replace(META, **change), SETTINGS)
    told = None if verdict is None else (verdict[0], verdict[1].code if verdict[1] else "")
    assert told == expected


@pytest.fixture
def reaper(log: Log, link: Link) -> Reaper:
    return Reaper(log, Dispatcher(link), SETTINGS, Metrics())


async def test_each_turn_notes_how_long_the_queue_is(link: Link, log: Log) -> None:
    dispatcher, metrics = Dispatcher(link), Metrics()
    reaper = Reaper(log, dispatcher, SETTINGS.model_copy(update={"reap_s": 0.01}), metrics)
    for n in range(3):
        await dispatcher.dispatch(MessageRef("t", "c", f"m{n}"))
    turning = asyncio.create_task(reaper.run())
    await wait_until(lambda: b"tailrace_queue_depth 3.0" in metrics.text())
    await link.call("DEL", QUEUE_NAME)
    await wait_until(lambda: b"tailrace_queue_depth 0.0" in metrics.text())
    turning.cancel()


async def due(link: Link, ref: MessageRef) -> bool:
    return await link.call("ZSCORE", DUE, ref.member) is not None


async def test_an_expired_lease_is_dispatched_and_looked_at_again(
    log: Log, link: Link, ref: MessageRef, reaper: Reaper
) -> None:
    await started(log, ref)
    await run_out(link, ref)
    await log.watch(ref, -1)
    await reaper.reap()
    assert await Dispatcher(link).depth() == 1
    assert await due(link, ref)


async def test_what_a_dead_worker_had_begun_is_dispatched_before_what_is_new(
    log: Log, link: Link, ref: MessageRef, reaper: Reaper
) -> None:
    dispatcher = Dispatcher(link)
    await dispatcher.dispatch(MessageRef("t", "c", "new"))
    await started(log, ref)
    await run_out(link, ref)
    await log.watch(ref, -1)
    await reaper.reap()
    assert [job.job_id for job in await dispatcher.pick(QUEUE_NAME, 1, 1000)] == [ref.member]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"lease_until": NOW - 500}, 1_000),
        ({"lease_until": NOW - 30_000}, 30_000),
        ({"state": "queued", "born": NOW - 30_000}, 30_000),
        ({"state": "queued", "born": NOW - 3_600_000}, 60_000),
        ({"state": "queued", "born": NOW - 3_600_000, "drained": True}, 5_000),
        ({"lease_until": NOW - 30_000, "drained": True}, 30_000),
    ],
)
def test_what_was_just_handed_over_is_looked_at_again_soon_however_old_it_is(
    change: dict[str, Any], expected: int
) -> None:
    assert pause_ms(replace(META, **change)) == expected


async def test_a_live_lease_is_left_alone(log: Log, link: Link, ref: MessageRef, reaper: Reaper) -> None:
    await started(log, ref)
    await log.watch(ref, -1)
    await reaper.reap()
    assert await Dispatcher(link).depth() == 0
    assert await due(link, ref)


async def test_what_has_ended_or_vanished_is_forgotten(log: Log, link: Link, ref: MessageRef, reaper: Reaper) -> None:
    await log.watch(ref, -1)
    await reaper.reap()
    assert not await due(link, ref)


async def test_an_exhausted_message_is_ended_with_its_parts_closed(
    log: Log, link: Link, ref: MessageRef, reaper: Reaper
) -> None:
    own = await started(log, ref)
    payloads = [ev.encode_event(event) for event in (ev.Start("m"), ev.StartStep(), ev.TextStart("t"))]
    await log.append(own, 3, payloads, lease_ms=60_000, renew_ttl=False, deadline_s=5)
    await append(log, own, 6, "partial")
    for n in (1, 2):
        await run_out(link, ref)
        await claim(log, ref, seen=n)
    await run_out(link, ref)
    await log.watch(ref, -1)
    await reaper.reap()
    events = [entry.event for entry in await log.read_all(ref)]
    names = [type(event).__name__ for event in events[-4:]]
    assert names == ["TextEnd", "FinishStep", "Error", "End"]
    assert events[-1] == ev.End("failed", 3, None, failure("worker_lost"))
    final = await log.final(ref)
    assert final is not None
    assert decode_message(final).text == "partial"
    assert await log.active(ref.tenant, ref.chat_id) is None


async def test_a_stopped_message_is_ended_even_before_its_first_event(log: Log, link: Link, ref: MessageRef) -> None:
    await created(log, ref)
    await log.stop(ref)
    reply = await end_unowned(log, Dispatcher(link), await seen(log, ref), "aborted", None)
    assert reply.status == "ok"
    events = [entry.event for entry in await log.read_all(ref)]
    assert events[1:] == [ev.Start(ref.message_id), ev.Abort(), ev.End("aborted")]


async def test_ending_a_message_that_was_claimed_meanwhile_changes_nothing(
    log: Log, link: Link, ref: MessageRef
) -> None:
    await created(log, ref)
    old = await seen(log, ref)
    await claim(log, ref)
    assert (await end_unowned(log, Dispatcher(link), old, "aborted", None)).status == "moved"
    assert (await seen(log, ref)).state == "running"


async def test_the_sweep_finds_what_every_index_forgot(log: Log, link: Link, ref: MessageRef, reaper: Reaper) -> None:
    await created(log, ref)
    await link.call("DEL", DUE)
    await reaper.sweep_once()
    assert await due(link, ref)


async def test_only_one_worker_sweeps_at_a_time(log: Log, link: Link, ref: MessageRef, reaper: Reaper) -> None:
    await reaper.sweep_once()
    await created(log, ref)
    await reaper.sweep_once()
    assert not await due(link, ref)


async def test_a_message_lost_with_all_of_redis_is_left(log: Log, link: Link, ref: MessageRef, reaper: Reaper) -> None:
    await started(log, ref)
    await lose_everything(link)
    await log.watch(ref, -1)
    await reaper.reap()
    assert not await due(link, ref)


async def test_what_names_no_message_or_has_no_record_keeps_nobody_else_waiting(
    log: Log, link: Link, ref: MessageRef, reaper: Reaper
) -> None:
    await started(log, ref)
    await run_out(link, ref)
    for member in (b"nonsense", b"a/b/=zz", b"\xff/b/c"):
        await link.call("ZADD", DUE, 1, member)
    odd = replace(ref, message_id="odd")
    await link.call("SET", log_keys(odd).meta, "no record at all")
    for each in (odd, ref):
        await log.watch(each, -1)
    await reaper.reap()
    assert await Dispatcher(link).depth() == 1
    assert set(await link.call("ZRANGE", DUE, 0, -1)) == {odd.member.encode(), ref.member.encode()}


async def test_a_key_that_only_looks_like_a_records_does_not_stop_the_sweep(
    log: Log, link: Link, ref: MessageRef, reaper: Reaper
) -> None:
    await created(log, ref)
    await link.call("DEL", DUE)
    await link.call("HSET", "tr:of-somebody-else:meta", "st", "running")
    await reaper.sweep_once()
    assert await due(link, ref)
