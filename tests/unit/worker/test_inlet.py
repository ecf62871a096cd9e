"""What comes in from an upstream, on its way to a writer on a real log: when to wait, and what is written around it."""

from __future__ import annotations

import asyncio

import pytest

from shared import events as ev
from shared.ids import MessageRef
from shared.log.log import Log
from tests.unit.worker.pen import Pen, pen
from worker.inlet import Inlet
from worker.ledger import OutputLimit
from worker.recovery import Plan


def inlet(it: Pen) -> Inlet:
    """Return a first attempt's."""
    return Inlet("m", Plan("first", "start", [], []), it.writer, it.metrics)


async def written(it: Pen, log: Log) -> list[ev.Event]:
    """Return what is in the log in the end, behind the writer's own first entries."""
    await it.finish()
    return [entry.event for entry in await log.read_all(it.own.ref)][3:-1]


async def test_an_upstream_waits_while_the_writer_is_full_and_no_longer(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref, max_unsent_bytes=100) as it:
        mouth = inlet(it)
        assert mouth.take([ev.TextDelta("", "x" * 200)])
        async with asyncio.timeout(5):
            await mouth.room()
        assert not mouth.take([ev.TextDelta("", "y")])


async def test_only_the_name_of_the_answer_is_no_token(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as it:
        mouth = inlet(it)
        begun = []
        for event in (ev.Upstream("run"), ev.TextDelta("", "a"), ev.Upstream("run")):
            mouth.take([event])
            begun.append(mouth.begun)
        assert begun == [False, True, True]
        assert it.metrics.events.value == 3


async def test_usage_is_logged_before_what_comes_after_it(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as it:
        mouth = inlet(it)
        mouth.take([ev.TextDelta("", "a")])
        mouth.add_usage(ev.Usage(1, 2, 3))
        mouth.take([ev.TextDelta("", "b")])
        spoken = [event for event in await written(it, log) if isinstance(event, ev.TextDelta | ev.UsageSoFar)]
        assert spoken == [ev.TextDelta("t0", "a"), ev.UsageSoFar(ev.Usage(1, 2, 3)), ev.TextDelta("t0", "b")]


async def test_a_replay_is_behind_until_it_has_passed_what_the_log_holds(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as it:
        mouth = inlet(it)
        mouth.expect_replay([ev.Start("m"), ev.StartStep(), ev.TextStart("t0"), ev.TextDelta("t0", "abc")])
        behind = [mouth.behind]
        for text in ("ab", "cd"):
            mouth.take([ev.TextDelta("", text)])
            behind.append(mouth.behind)
        assert behind == [True, True, False]
        assert await written(it, log) == [ev.TextDelta("t0", "d")]


async def test_after_a_restart_the_answer_begins_anew(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as it:
        mouth = inlet(it)
        mouth.expect_rest(" ")
        mouth.restart("upstream_error")
        mouth.take([ev.TextDelta("", " a")])
        assert await written(it, log) == [
            ev.Reset(1, "upstream_error"),
            ev.Start("m"),
            ev.StartStep(),
            ev.TextStart("t0"),
            ev.TextDelta("t0", " a"),
        ]


async def test_what_has_no_room_does_not_reach_the_grammar(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as it:
        mouth = inlet(it)
        with pytest.raises(OutputLimit):
            mouth.take([ev.TextDelta("", "x" * 10_000_001)])
        assert mouth.grammar.break_off() == [ev.Start("m")]


async def test_an_answer_under_way_may_not_outgrow_its_limit_either(log: Log, ref: MessageRef) -> None:
    async with pen(log, ref) as it:
        mouth = inlet(it)
        mouth.take([ev.TextDelta("", "a")])
        with pytest.raises(OutputLimit):
            mouth.take([ev.TextDelta("", "b"), ev.TextDelta("", "x" * 10_000_001)])
        assert (await written(it, log))[-1] == ev.TextDelta("t0", "ab")
