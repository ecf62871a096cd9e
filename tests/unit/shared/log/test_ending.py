"""Ending a message that nobody owns: everything open is closed, and what is stored is what the log tells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.events import encode_event
from shared.fold import fold
from shared.ids import MessageRef
from shared.link import Link
from shared.log.ending import FAILOVER_WINDOW_MS, end_unowned, failure
from shared.log.keys import DUE
from shared.log.log import Log
from shared.message import decode_message
from shared.redis import resolver
from tests.support.log import cancel_jobs, claim, create, ending, run_out, seen, started

ANSWER: list[ev.Event] = [
    ev.Start("m"), ev.StartStep(), ev.UsageSoFar(ev.Usage(3, 1, 4)),
    ev.ReasoningStart("r"), ev.ReasoningDelta("r", "hm"), ev.ReasoningEnd("r"),
    ev.TextStart("t"), ev.TextDelta("t", "a"), ev.TextDelta("t", "b"),
    ev.ToolInputStart("c", "f"), ev.ToolInputDelta("c", "{"), ev.ToolInputAvailable("c", "f", {}), ev.TextEnd("t"),
    ev.FinishStep(), ev.Reset(1, "restart"), ev.Start("m"), ev.StartStep(), ev.TextStart("t2"), ev.TextDelta("t2", "c"),
]  # fmt: skip


def opened(events: list[ev.Event]) -> Iterator[tuple[str, str]]:
    """Yield what is opened and closed, as pairs that a strict client would match."""
    for event in events:
        match event:
            case ev.TextStart(id=name) | ev.ReasoningStart(id=name):
                yield "open", name
            case ev.TextEnd(id=name) | ev.ReasoningEnd(id=name):
                yield "close", name
            case ev.StartStep():
                yield "open", "step"
            case ev.FinishStep():
                yield "close", "step"
            case ev.Reset():
                yield "clear", ""
            case _:
                pass


@pytest.mark.parametrize("cut", range(len(ANSWER) + 1))
async def test_wherever_the_worker_died_the_log_is_well_formed_and_the_final_message_is_its_fold(
    log: Log, link: Link, ref: MessageRef, cut: int
) -> None:
    own = await started(log, ref)
    payloads = [encode_event(event) for event in ANSWER[:cut]]
    await log.append(own, 3, payloads, lease_ms=1000, renew_ttl=False, deadline_s=5)
    await run_out(link, ref)
    reply = await end_unowned(log, Dispatcher(link), await seen(log, ref), "failed", failure("worker_lost"))
    assert (reply.status, reply.state) == ("ok", "failed")

    events = [entry.event for entry in await log.read_all(ref)]
    raw = await log.final(ref)
    assert raw is not None
    assert decode_message(raw) == fold(events)
    standing: list[str] = []
    for deed, name in opened(events):
        match deed:
            case "open":
                assert name not in standing
                standing.append(name)
            case "close":
                standing.remove(name)
            case _:
                standing.clear()
    assert standing == []
    assert sum(isinstance(event, ev.Start) for event in events[events_after_reset(events) :]) == 1
    end = events[-1]
    assert isinstance(end, ev.End)
    assert (end.state, end.attempts, end.error) == ("failed", 1, failure("worker_lost"))
    assert (end.usage is None) == (cut < 3)  # usage counts over resets
    assert isinstance(events[-2], ev.Error)


def events_after_reset(events: list[ev.Event]) -> int:
    return max((n for n, event in enumerate(events) if isinstance(event, ev.Reset)), default=0)


async def test_a_stopped_message_ends_with_an_abort_and_no_code(log: Log, link: Link, ref: MessageRef) -> None:
    await create(log, ref)
    await end_unowned(log, Dispatcher(link), await seen(log, ref), "aborted", None)
    events = [entry.event for entry in await log.read_all(ref)]
    assert events[1:] == [ev.Start(ref.message_id), ev.Abort(), ev.End("aborted")]


async def test_a_lost_stream_ends_too(log: Log, link: Link, ref: MessageRef) -> None:
    await started(log, ref)
    await run_out(link, ref)
    await link.call("DEL", f"tr:{{acme/{ref.chat_id}}}:{ref.message_id}:log")
    await end_unowned(log, Dispatcher(link), await seen(log, ref), "failed", failure("lost"))
    message = decode_message(await log.final(ref) or b"")
    assert (message.chat_id, message.message_id, message.state) == (ref.chat_id, ref.message_id, "failed")


async def test_what_was_decided_stands_and_nothing_is_added_to_it(log: Log, link: Link, ref: MessageRef) -> None:
    own = await started(log, ref)
    await log.decide(own, ending("done"))
    await run_out(link, ref)
    assert (
        await end_unowned(log, Dispatcher(link), await seen(log, ref), "failed", failure("worker_lost"))
    ).state == "done"
    assert [entry.raw for entry in await log.read_all(ref)][2:] == [ending("done").end]


async def test_an_ended_message_is_looked_at_once_more(log: Log, link: Link, ref: MessageRef) -> None:
    await create(log, ref)
    await end_unowned(log, Dispatcher(link), await seen(log, ref), "aborted", None)
    seconds, _ = await link.call("TIME")
    due = float(await link.call("ZSCORE", DUE, ref.member))
    assert FAILOVER_WINDOW_MS - 5_000 < due - int(seconds) * 1000 < FAILOVER_WINDOW_MS + 5_000


async def test_one_that_moved_is_left_alone(log: Log, link: Link, ref: MessageRef) -> None:
    await create(log, ref)
    meta = await seen(log, ref)
    await claim(log, ref)
    appointment = await link.call("ZSCORE", DUE, ref.member)
    assert (await end_unowned(log, Dispatcher(link), meta, "failed", failure("lost"))).status == "moved"
    assert await link.call("ZSCORE", DUE, ref.member) == appointment


@pytest.mark.parametrize(
    ("after", "left"),
    [
        ([], "run_1"),
        ([ev.TextStart("t"), ev.Attempt(2, "drain", "reattach")], "run_1"),
        ([ev.Upstream("run_2")], "run_2"),
        ([ev.Finish("stop")], ""),
        ([ev.Abort()], ""),
        ([ev.Reset(1, "worker_lost")], ""),
    ],
)
async def test_a_run_that_goes_on_upstream_is_cancelled_by_a_worker(
    log: Log, link: Link, ref: MessageRef, after: list[ev.Event], left: str
) -> None:
    own = await started(log, ref)
    payloads = [encode_event(event) for event in (ev.Upstream("run_1"), *after)]
    await log.append(own, 3, payloads, lease_ms=1000, renew_ttl=False, deadline_s=5)
    await run_out(link, ref)
    await end_unowned(log, Dispatcher(link), await seen(log, ref), "failed", failure("worker_lost"))
    attempt = 2 if len(after) == 2 else 1
    assert await cancel_jobs(link) == ([[ref.member, "m", left, attempt]] if left else [])


async def test_a_queue_that_is_away_does_not_undo_the_end(log: Log, link: Link, ref: MessageRef) -> None:
    own = await started(log, ref)
    await log.append(own, 3, [encode_event(ev.Upstream("run_1"))], lease_ms=1000, renew_ttl=False, deadline_s=5)
    await run_out(link, ref)
    nowhere = Dispatcher(Link(resolver("redis://127.0.0.1:1/0"), name="nowhere"), deadline_s=0.05)
    assert (await end_unowned(log, nowhere, await seen(log, ref), "aborted", None)).status == "ok"


def test_every_code_has_its_sentence() -> None:
    assert failure("lost").message
    assert failure("lost", "other").message == "other"
    with pytest.raises(KeyError):
        failure("no_such_code")
