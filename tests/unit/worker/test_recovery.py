"""How an answer goes on after its worker: the order of preference, the continuation's request, the replay's skip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events as ev
from shared.cursor import Cursor
from shared.fold import fold
from shared.jobs import GenerationRequest
from shared.log.types import Entry
from shared.message import ToolPart
from shared.models import ModelSpec
from shared.outline import Outline
from worker.grammar import Grammar
from worker.recovery import GiveUp, Plan, Rebase, Skip, continuation, plan_attempt

REQUEST = GenerationRequest("m", [{"role": "user", "content": "hi"}])
TEXT = "A text that is long enough to be worth going on from, by some distance. "
BEGIN: list[ev.Event] = [ev.Created("c", "m", "m", 1), ev.Attempt(1, "first", "start"), ev.Start("m"), ev.StartStep()]
PARTIAL: list[ev.Event] = [*BEGIN, ev.TextStart("t0"), ev.TextDelta("t0", TEXT)]

CALL: list[ev.Event] = [ev.ToolInputStart("c", "f"), ev.ToolInputAvailable("c", "f", {})]
ANSWER = ev.ToolOutputAvailable("c", 1)


def entries(events: Sequence[ev.Event]) -> list[Entry]:
    return [Entry(Cursor(1_700_000_000_000_000, n), ev.encode_event(event)) for n, event in enumerate(events, 1)]


def plan(events: Sequence[ev.Event], params: dict[str, Any] | None = None, **spec: Any) -> Plan | GiveUp:
    model = ModelSpec(name="m", **{"prefill": True, **spec})
    request = GenerationRequest("m", REQUEST.messages, params or {})
    return plan_attempt(model, request, entries(events), released=False, prefills=True)


def mode(events: Sequence[ev.Event], params: dict[str, Any] | None = None, **spec: Any) -> str:
    found = plan(events, params, **spec)
    return "give up" if isinstance(found, GiveUp) else found.mode


def test_the_first_attempt_starts() -> None:
    found = plan(BEGIN[:1])
    assert isinstance(found, Plan)
    assert (found.reason, found.mode, found.prior) == ("first", "start", None)


def test_plain_text_is_continued_where_the_model_can() -> None:
    found = plan(PARTIAL)
    assert isinstance(found, Plan)
    assert (found.mode, found.partial, found.reason) == ("continue", TEXT, "worker_lost")
    assert list(found.outline.parts) == ["t0"]


@pytest.mark.parametrize(
    ("events", "params", "spec", "expected"),
    [
        ([*PARTIAL, ev.UsageSoFar(ev.Usage(1, 2, 3))], {}, {}, "continue"),
        (PARTIAL, {}, {"prefill": False}, "restart"),
        (PARTIAL, {}, {"recovery": "restart"}, "restart"),
        (PARTIAL, {}, {"recovery": "fail"}, "give up"),
        (PARTIAL, {"response_format": {"type": "json_schema"}}, {}, "restart"),
        (PARTIAL, {"response_format": {"type": "text"}}, {}, "continue"),
        (PARTIAL, {"tool_choice": "required"}, {}, "restart"),
        (PARTIAL, {"n": 2}, {}, "restart"),
        ([*BEGIN, ev.TextStart("t0"), ev.TextDelta("t0", "short")], {}, {}, "restart"),
        ([*PARTIAL, ev.TextEnd("t0")], {}, {}, "restart"),
        ([*PARTIAL, ev.TextEnd("t0"), ev.ToolInputStart("c", "f")], {}, {}, "restart"),
        ([*BEGIN, ev.ReasoningStart("r0"), ev.ReasoningDelta("r0", TEXT)], {}, {}, "restart"),
        ([*BEGIN, ev.ReasoningStart("r0"), ev.ReasoningEnd("r0"), *PARTIAL[4:]], {}, {}, "continue"),
        ([*PARTIAL, ev.Data("x", 1)], {}, {}, "restart"),
        (BEGIN, {}, {"recovery": "fail"}, "give up"),
        (BEGIN, {}, {}, "start"),
        (
            [*BEGIN, ev.Upstream("r1")],
            {},
            {"background": True, "kind": "responses", "recovery": "fail"},
            "reattach",
        ),
        ([*BEGIN, *CALL], {}, {"kind": "agent", "agent": "a:b"}, "give up"),
        ([*BEGIN, *CALL], {}, {"kind": "agent", "agent": "a:b", "recovery": "restart"}, "restart"),
        ([*BEGIN, *CALL], {}, {}, "restart"),
        ([*BEGIN, *CALL, ANSWER, ev.Reset(1, "worker_lost")], {}, {"kind": "agent", "agent": "a:b"}, "give up"),
        ([*BEGIN, ev.TextStart("t0")], {}, {}, "start"),
        ([*PARTIAL, ev.Reset(1, "worker_lost"), ev.Start("m")], {}, {}, "start"),
        ([*PARTIAL, ev.Attempt(2, "worker_lost", "continue"), ev.TextDelta("t0", "x")], {}, {}, "continue"),
        ([*BEGIN, ev.Upstream("r1"), *PARTIAL[4:]], {}, {"background": True, "kind": "responses"}, "reattach"),
        ([*BEGIN, ev.Upstream("r1")], {}, {"background": True, "kind": "responses"}, "reattach"),
        ([*BEGIN, ev.Upstream("r1"), *PARTIAL[4:]], {}, {"kind": "responses"}, "restart"),
        (
            [*BEGIN, *CALL, ANSWER],
            {},
            {"kind": "agent", "agent": "a:b"},
            "give up",
        ),
        (
            [*BEGIN, *CALL, ANSWER],
            {},
            {"kind": "agent", "agent": "a:b", "recovery": "restart"},
            "restart",
        ),
    ],
)
def test_the_order_of_preference(
    events: list[ev.Event], params: dict[str, Any], spec: dict[str, Any], expected: str
) -> None:
    assert mode(events, params, **spec) == expected


def test_an_agent_is_told_what_every_attempt_before_it_did() -> None:
    first: list[ev.Event] = [*BEGIN, *CALL, ANSWER]
    second: list[ev.Event] = [
        ev.Attempt(2, "worker_lost", "restart"),
        ev.Reset(1, "worker_lost"),
        ev.Start("m"),
        ev.StartStep(),
    ]
    for log in (first, [*first, *second], [*first, *second, *CALL]):
        found = plan(log, kind="agent", agent="a:b", recovery="restart")
        assert isinstance(found, Plan)
        assert found.prior is not None
        tools = [part for part in found.prior.parts if isinstance(part, ToolPart)]
        assert tools[0].output == 1
        assert len(tools) == log.count(CALL[0])


def test_a_model_that_refused_before_is_not_asked_again() -> None:
    model = ModelSpec(name="m", prefill=True)
    found = plan_attempt(model, REQUEST, entries(PARTIAL), released=True, prefills=False)
    assert isinstance(found, Plan)
    assert (found.mode, found.reason) == ("restart", "drain")


@pytest.mark.parametrize(
    ("last", "state"), [(ev.Finish("stop"), "done"), (ev.Abort(), "aborted"), (ev.Error("x"), "failed")]
)
def test_an_answer_that_lacks_only_its_end_is_not_generated_again(last: ev.Event, state: str) -> None:
    found = plan([*PARTIAL, ev.TextEnd("t0"), ev.FinishStep(), last])
    assert isinstance(found, Plan)
    assert found.ended == state


def test_the_continuations_request() -> None:
    spec = ModelSpec(
        name="m", prefill=True, prefill_params={"add_generation_prompt": False}, prefill_message={"prefix": True}
    )
    request = GenerationRequest("m", REQUEST.messages, {"max_tokens": 100, "temperature": 1})
    found, shown = continuation(request, spec, "Some text \n")
    assert found.messages == [*REQUEST.messages, {"role": "assistant", "content": "Some text", "prefix": True}]
    assert found.params == {"max_tokens": 98, "temperature": 1, "add_generation_prompt": False}
    assert shown == " \n"


def test_the_callers_own_prefill_stays_in_front() -> None:
    request = GenerationRequest("m", [*REQUEST.messages, {"role": "assistant", "content": "Once "}])
    found, _ = continuation(request, ModelSpec(name="m"), "upon a time")
    assert found.messages[-1] == {"role": "assistant", "content": "Once upon a time"}
    assert len(found.messages) == 2


@pytest.mark.parametrize(
    ("shown", "deltas", "expected"),
    [
        (" \n", [" \nmore"], "more"),
        (" \n", [" ", "\n", "more"], "more"),
        (" \n", ["more", " \n"], "more \n"),
        (" ", ["  x"], " x"),
        ("", [" x"], " x"),
        ("\n\n", ["\nx"], "x"),
    ],
)
def test_white_space_that_viewers_have_is_taken_off(shown: str, deltas: list[str], expected: str) -> None:
    rebase = Rebase(shown)
    out = [rebase.feed(ev.TextDelta("", delta)) for delta in deltas]
    assert "".join(event.delta for event in out if isinstance(event, ev.TextDelta)) == expected


_loose = st.one_of(
    st.builds(ev.TextDelta, st.just(""), st.text(min_size=1, max_size=4)),
    st.builds(ev.ReasoningDelta, st.just(""), st.text(min_size=1, max_size=4)),
    st.builds(ev.SourceUrl, st.just("s"), st.just("u")),
)


@given(st.lists(_loose, min_size=1, max_size=12), st.integers(0, 40), st.integers(1, 5))
def test_a_replay_after_a_cut_anywhere_adds_exactly_what_is_missing(
    events: list[ev.Event], cut: int, pieces: int
) -> None:
    def write(source: list[ev.Event]) -> list[ev.Event]:
        grammar = Grammar("m", Outline())
        return [out for event in source for out in grammar.feed(event)]

    whole = write(events)
    logged = whole[:cut]
    if logged and isinstance(logged[-1], ev.TextDelta) and len(logged[-1].delta) > 1:
        logged[-1] = ev.TextDelta(logged[-1].id, logged[-1].delta[:-1])  # cut inside a delta
    recut = [
        type(event)(event.id, event.delta[at : at + pieces])
        for event in events
        if isinstance(event, ev.TextDelta | ev.ReasoningDelta)
        for at in range(0, len(event.delta), pieces)
    ]
    source = recut if not any(isinstance(event, ev.SourceUrl) for event in events) else events
    skip = Skip([*BEGIN[:2], ev.Upstream("r"), *logged, ev.UsageSoFar(ev.Usage(1, 2, 3))])
    fresh = [event for out in write([ev.Upstream("r"), *source]) if (event := skip.feed(out)) is not None]
    assert fold([*logged, *fresh]) == fold(whole)
