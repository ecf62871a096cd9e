"""The grammar: whatever comes in, what comes out is well-formed for every client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events as ev
from shared.fold import fold
from shared.message import ToolPart
from shared.outline import Outline, outline_of
from worker.grammar import AgentFailed, Grammar


def run(*events: ev.Event) -> list[ev.Event]:
    grammar = Grammar("m", Outline())
    out = [written for event in events for written in grammar.feed(event)]
    return out + grammar.finish({})


def well_formed(events: list[ev.Event]) -> None:
    """Assert what the AI SDK's stream processor asserts, and that everything is closed at the end."""
    open_parts: dict[str, type] = {}
    tools: set[str] = set()
    in_step = False
    assert isinstance(events[0], ev.Start)
    assert events[0].message_id == "m"
    assert sum(isinstance(event, ev.Start) for event in events) == 1
    for event in events:
        match event:
            case ev.TextStart() | ev.ReasoningStart():
                assert in_step
                assert event.id
                assert event.id not in open_parts
                open_parts[event.id] = type(event)
            case ev.TextDelta(id=part) | ev.TextEnd(id=part):
                assert open_parts.get(part) is ev.TextStart
            case ev.ReasoningDelta(id=part) | ev.ReasoningEnd(id=part):
                assert open_parts.get(part) is ev.ReasoningStart
            case ev.ToolInputStart():
                assert in_step
                assert event.tool_call_id not in tools
                tools.add(event.tool_call_id)
            case ev.ToolInputDelta() | ev.ToolInputAvailable() | ev.ToolInputError() | ev.ToolOutputAvailable():
                assert event.tool_call_id in tools
            case ev.StartStep():
                assert not in_step
                in_step = True
            case ev.FinishStep():
                assert in_step
                assert not open_parts
                in_step = False
            case _:
                pass
        if isinstance(event, ev.TextEnd | ev.ReasoningEnd):
            del open_parts[event.id]
    assert not open_parts
    assert not in_step
    assert isinstance(events[-1], ev.Finish)


_ids = st.sampled_from(["", "a", "b", "t0"])
_calls = st.sampled_from(["c1", "c2"])
_loose = st.one_of(
    st.builds(ev.TextStart, _ids),
    st.builds(ev.TextDelta, _ids, st.text(max_size=2)),
    st.builds(ev.TextEnd, _ids),
    st.builds(ev.ReasoningStart, _ids),
    st.builds(ev.ReasoningDelta, _ids, st.text(max_size=2)),
    st.builds(ev.ReasoningEnd, _ids),
    st.builds(ev.ToolInputStart, _calls, st.just("tool")),
    st.builds(ev.ToolInputDelta, _calls, st.text(max_size=2)),
    st.builds(ev.ToolInputAvailable, _calls, st.just("tool"), st.just({})),
    st.builds(ev.ToolOutputAvailable, _calls, st.just(1)),
    st.builds(ev.Start, st.just("other")),
    st.builds(ev.StartStep),
    st.builds(ev.FinishStep),
    st.builds(ev.Finish, st.sampled_from(["stop", "length"])),
    st.builds(ev.Abort),
    st.builds(ev.Data, st.just("x"), st.just(1)),
    st.builds(ev.SourceUrl, st.just("s"), st.just("https://example.org")),
    st.builds(ev.End, st.just("done")),
    st.builds(ev.Reset, st.just(1), st.just("no")),
)


@given(st.lists(_loose, max_size=25))
def test_any_events_come_out_well_formed(events: list[ev.Event]) -> None:
    well_formed(run(*events))


@given(st.lists(_loose, max_size=25), st.integers(0, 60))
def test_an_answer_cut_anywhere_and_taken_up_again_is_well_formed(events: list[ev.Event], cut: int) -> None:
    first = Grammar("m", Outline())
    written = [out for event in events for out in first.feed(event)][:cut]
    used = {event.id for event in written if isinstance(event, ev.TextStart | ev.ReasoningStart)}
    second = Grammar("m", outline_of(written), used)
    written += [out for event in events for out in second.feed(event)]
    well_formed(written + second.finish({}))


@given(st.lists(_loose, max_size=25))
def test_breaking_off_closes_everything(events: list[ev.Event]) -> None:
    grammar = Grammar("m", Outline())
    written = [out for event in events for out in grammar.feed(event)]
    well_formed([*written, *grammar.break_off(), ev.Finish()])


def test_bare_deltas_get_parts_and_a_change_of_kind_closes_the_part_before() -> None:
    assert run(ev.ReasoningDelta("", "hm"), ev.TextDelta("", "a"), ev.TextDelta("", "b"), ev.Finish("stop")) == [
        ev.Start("m"),
        ev.StartStep(),
        ev.ReasoningStart("r0"),
        ev.ReasoningDelta("r0", "hm"),
        ev.ReasoningEnd("r0"),
        ev.TextStart("t1"),
        ev.TextDelta("t1", "a"),
        ev.TextDelta("t1", "b"),
        ev.TextEnd("t1"),
        ev.FinishStep(),
        ev.Finish("stop"),
    ]


def test_a_tool_call_ends_the_text_before_it() -> None:
    out = run(ev.TextDelta("", "a"), ev.ToolInputStart("c", "f"), ev.TextDelta("", "b"))
    kinds = [type(event).__name__ for event in out]
    assert kinds.index("TextEnd") < kinds.index("ToolInputStart") < kinds.index("TextStart", 4)


def test_a_whole_tool_call_without_start_gets_one() -> None:
    out = run(ev.ToolInputAvailable("c", "f", {"x": 1}))
    assert [e for e in out if isinstance(e, ev.ToolInputStart)] == [ev.ToolInputStart("c", "f")]


def test_what_follows_a_tools_output_is_another_step() -> None:
    out = run(
        ev.ToolInputAvailable("c", "f", {}),
        ev.ToolInputAvailable("d", "g", {}),
        ev.ToolOutputAvailable("c", 1),
        ev.ToolOutputAvailable("d", 2),
        ev.TextDelta("", "a"),
        ev.TextDelta("", "b"),
    )
    assert [type(part).__name__ for part in fold(out).parts] == [
        "StepPart",
        "ToolPart",
        "ToolPart",
        "StepPart",
        "TextPart",
    ]
    assert fold(out).text == "ab"


def test_text_that_runs_on_beside_a_tool_is_another_step_once_the_output_has_come() -> None:
    out = run(
        ev.ToolInputAvailable("c", "f", {}),
        ev.TextDelta("", "a"),
        ev.ToolOutputAvailable("c", 1),
        ev.TextDelta("", "b"),
    )
    assert [type(part).__name__ for part in fold(out).parts] == [
        "StepPart",
        "ToolPart",
        "TextPart",
        "StepPart",
        "TextPart",
    ]


def test_an_agent_that_draws_its_own_steps_gets_no_empty_one() -> None:
    out = run(
        ev.ToolInputAvailable("c", "f", {}),
        ev.ToolOutputAvailable("c", 1),
        ev.FinishStep(),
        ev.StartStep(),
        ev.TextDelta("", "a"),
    )
    assert sum(isinstance(event, ev.StartStep) for event in out) == 2


def test_a_part_with_a_name_that_is_open_beside_a_tool_is_not_cut() -> None:
    out = run(
        ev.TextStart("t"),
        ev.ToolInputAvailable("c", "f", {}),
        ev.ToolOutputAvailable("c", 1),
        ev.ReasoningDelta("", "hm"),
        ev.TextDelta("t", "a"),
        ev.TextEnd("t"),
    )
    assert sum(isinstance(event, ev.StartStep) for event in out) == 1
    assert fold(out).text == "a"


def test_a_call_under_the_id_of_an_answered_one_is_another_call() -> None:
    out = run(
        ev.ToolInputStart("call_0", "a"),
        ev.ToolInputDelta("call_0", '{"x":1}'),
        ev.ToolInputAvailable("call_0", "a", {"x": 1}),
        ev.ToolOutputAvailable("call_0", "one"),
        ev.ToolInputStart("call_0", "b"),
        ev.ToolInputDelta("call_0", '{"y":2}'),
        ev.ToolInputAvailable("call_0", "b", {"y": 2}),
        ev.ToolOutputAvailable("call_0", "two"),
        ev.ToolInputAvailable("call_0", "c", {"z": 3}),
        ev.ToolOutputError("call_0", "three"),
    )
    calls = [part for part in fold(out).parts if isinstance(part, ToolPart)]
    assert [(part.tool_call_id, part.tool_name, part.input, part.output, part.error_text) for part in calls] == [
        ("call_0", "a", {"x": 1}, "one", None),
        ("call_0_2", "b", {"y": 2}, "two", None),
        ("call_0_3", "c", {"z": 3}, None, "three"),
    ]


def test_a_call_under_an_id_that_the_conversation_has_is_another_call() -> None:
    grammar = Grammar("m", Outline(), called={"call_0", "call_0_2"})
    events: list[ev.Event] = [
        ev.ToolInputStart("call_0", "a"),
        ev.ToolInputDelta("call_0", '{"x":1}'),
        ev.ToolInputAvailable("call_0", "a", {"x": 1}),
        ev.ToolInputAvailable("call_1", "b", {}),
    ]
    calls = fold(out for event in events for out in grammar.feed(event)).parts
    assert [part.tool_call_id for part in calls if isinstance(part, ToolPart)] == ["call_0_3", "call_1"]


def test_the_message_id_is_the_messages_own_and_metadata_is_kept() -> None:
    out = run(ev.Start("theirs", {"k": 1}), ev.TextDelta("", "a"), ev.Finish("length", {"n": 2}))
    assert out[0] == ev.Start("m", {"k": 1})
    assert out[-1] == ev.Finish("length", {"n": 2})


def test_finish_waits_for_the_very_end() -> None:
    out = run(ev.Finish("tool-calls"), ev.TextDelta("", "late"))
    assert fold(out).text == "late"
    assert out[-1] == ev.Finish("tool-calls")


def test_an_agents_error_is_a_failure_of_the_answer() -> None:
    with pytest.raises(AgentFailed, match="no luck"):
        run(ev.TextDelta("", "a"), ev.Error("no luck"))


def test_nothing_at_all_is_still_an_answer() -> None:
    assert run() == [ev.Start("m"), ev.Finish("stop")]
