"""Owns logs for tests of the OpenAI wires: one a way that an answer can go, and random ones that could be written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from hypothesis import strategies as st
from msgspec import UNSET

from shared import events as ev
from shared.cursor import Cursor
from shared.log.types import Entry

CHAT_ID = "chatcmpl-0a1b2c"
RESPONSE_ID = "resp_0a1b2c"
TOOL: dict[str, Any] = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CHAT_OPTIONS: dict[str, Any] = {"include_usage": True, "tools": ["weather"]}
RESPONSE_OPTIONS: dict[str, Any] = {"background": True, "instructions": "Be brief.", "tools": [TOOL]}
USAGE = ev.Usage(12, 7, 19, 2, 3)
FAILURE = ev.Failure("upstream_interrupted", "The model's stream ended or broke before it said why it finished.")


def entries(events: Sequence[ev.Event]) -> list[Entry]:
    """Return `events` as a log's entries, each claim under an epoch of its own."""
    epoch = 1_763_000_000_000_000
    out = []
    for number, event in enumerate(events, 1):
        epoch += 1_000_000 if isinstance(event, ev.Attempt) else 0
        out.append(Entry(Cursor(epoch, number), ev.encode_event(event)))
    return out


def created(wire: str, options: dict[str, Any] | None = None) -> ev.Created:
    """Return the first entry of a message that was started on `wire`."""
    name = CHAT_ID if wire == "chat_completions" else RESPONSE_ID
    standard = CHAT_OPTIONS if wire == "chat_completions" else RESPONSE_OPTIONS
    return ev.Created(name, name, "scripted", 1_763_000_000, wire, standard if options is None else options)


def attempt(number: int, mode: ev.AttemptMode = "restart") -> ev.Attempt:
    """Return a claim."""
    return ev.Attempt(number, "first" if number == 1 else "worker_lost", "start" if number == 1 else mode)


def text(*pieces: str, part: str = "t0", end: bool = True) -> list[ev.Event]:
    """Return a text part."""
    ends: list[ev.Event] = [ev.TextEnd(part)] if end else []
    return [ev.TextStart(part), *(ev.TextDelta(part, piece) for piece in pieces), *ends]


def refusal(*pieces: str, part: str = "refusal") -> list[ev.Event]:
    """Return a text part that says why there is no answer."""
    return [ev.TextStart(part, refusal=True), *text(*pieces, part=part)[1:]]


def reasoning(*pieces: str) -> list[ev.Event]:
    """Return a reasoning part."""
    return [ev.ReasoningStart("r0"), *(ev.ReasoningDelta("r0", piece) for piece in pieces), ev.ReasoningEnd("r0")]


def call(call_id: str, *pieces: str, value: Any, name: str = "weather") -> list[ev.Event]:
    """Return a tool call: in pieces, or whole at once if there are none."""
    if not pieces:
        return [ev.ToolInputAvailable(call_id, name, value)]
    deltas = [ev.ToolInputDelta(call_id, piece) for piece in pieces]
    return [ev.ToolInputStart(call_id, name), *deltas, ev.ToolInputAvailable(call_id, name, value)]


def cut_call() -> list[ev.Event]:
    """Return a call whose input breaks off."""
    pieces = [ev.ToolInputDelta("c1", '{"city":'), ev.ToolInputDelta("c1", '"Whitby')]
    end = ev.ToolInputError("c1", "weather", '{"city":"Whitby', "not JSON")
    return [ev.ToolInputStart("c1", "weather"), *pieces, end]


def answer(*content: ev.Event, reason: ev.FinishReason = "stop") -> list[ev.Event]:
    """Return a whole answer around `content`, but for its end entry."""
    return [ev.Start("m"), ev.StartStep(), *content, ev.FinishStep(), ev.Finish(reason)]


def done(usage: ev.Usage | None = USAGE) -> ev.End:
    return ev.End("done", 1, usage)


def logs(wire: str) -> dict[str, list[ev.Event]]:
    """Return one log a case, each begun on `wire`."""
    first: list[ev.Event] = [created(wire), attempt(1)]
    partial = [ev.Start("m"), ev.StartStep(), *text("Void ", "text", end=False)]
    stopped: list[ev.Event] = [ev.TextEnd("t0"), ev.FinishStep()]
    fresh = answer(*text("Fresh ", "text."))
    two_calls = [*call("c1", '{"city": ', '"Ribe"}', value={"city": "Ribe"}), *call("c2", value={"city": "Ghent"})]
    own_tool = [*call("c1", value={}, name="search"), ev.ToolOutputAvailable("c1", {"hits": 3})]
    return {
        "plain": [*first, *answer(*text("Locks ", "lift ", "boats.")), done()],
        "reasoning": [*first, *answer(*reasoning("Hm, ", "locks."), *text("They ", "lift.")), done()],
        "tools": [*first, *answer(*text("Wait."), *two_calls, reason="tool-calls"), done()],
        "bad_input": [
            *first,
            *answer(ev.ToolInputStart("c1", "weather"), ev.ToolInputDelta("c1", "{"),
                    ev.ToolInputError("c1", "weather", "{", "not JSON"), reason="tool-calls"), done(),
        ],
        "own_tools": [*first, *answer(*own_tool, *text("Three hits.")), done()],
        "length": [*first, *answer(*text("Locks "), reason="length"), done()],
        "cut_call": [
            *first, *answer(*text("Wait."), *call("c0", value={"city": "Ribe"}), *cut_call(), reason="length"), done(),
        ],
        "stopped_in_a_call": [
            *first, *answer(*text("Wait."), *cut_call()[:-1])[:-2], ev.FinishStep(), ev.Abort(),
            ev.End("aborted", 1, USAGE),
        ],
        "sources": [
            *first,
            *answer(ev.SourceUrl("s0", "https://a"), *text("Locks ", end=False), ev.SourceUrl("s1", "https://b", "B"),
                    ev.TextDelta("t0", "lift."), ev.TextEnd("t0")), done(),
        ],
        "refusal": [*first, *answer(*refusal("I will ", "not.")), done()],
        "filtered": [*first, *answer(*text("Locks "), reason="content-filter"), done()],
        "odd_text": [*first, *answer(*text("a\u2028b\u0085c\x00d\ufffd", "\u00e9\U0001f30a\n\r\n")), done(None)],
        "failed": [*first, *partial, *stopped, ev.Error(FAILURE.message), ev.End("failed", 1, USAGE, FAILURE)],
        "model_error": [*first, *answer(*text("Locks "), reason="error"), done()],
        "stopped": [*first, *partial, *stopped, ev.Abort(), ev.End("aborted", 1, USAGE)],
        "stopped_waiting": [created(wire), ev.Start("m"), ev.Abort(), ev.End("aborted")],
        "continued": [
            *first, *partial, attempt(2, "continue"), ev.TextDelta("t0", ", and on."), ev.TextEnd("t0"),
            ev.FinishStep(), ev.Finish("stop"), ev.End("done", 2, USAGE),
        ],
        "restarted": [*first, *partial, attempt(2), ev.Reset(1, "worker_lost"), *fresh, ev.End("done", 2, USAGE)],
        "restarted_twice": [
            *first, *partial, attempt(2), ev.Reset(1, "worker_lost"), *partial, attempt(3),
            ev.Reset(1, "worker_lost"), *fresh, ev.End("done", 3, USAGE),
        ],
        "restarted_unseen": [
            *first, ev.Start("m"), ev.StartStep(), attempt(2), ev.Reset(1, "worker_lost"), *fresh, done(),
        ],
        "restarted_and_failed": [
            *first, *partial, attempt(2), ev.Reset(1, "worker_lost"), ev.Start("m"), ev.Error("lost"),
            ev.End("failed", 2, None, ev.Failure("worker_lost", "Workers died while writing it.")),
        ],
        "lost": [ev.End("failed", 1, None, ev.Failure("lost", "Redis lost the log."))],
    }  # fmt: skip


_TITLES: st.SearchStrategy[Any] = st.sampled_from([UNSET, "X"])
_WORDS = st.lists(st.text(max_size=5), max_size=4)


@st.composite
def contents(draw: st.DrawFn) -> list[ev.Event]:
    """Draw the content of an answer: parts and calls one after another, some of the tools not the client's."""
    out: list[ev.Event] = []
    for number in range(draw(st.integers(0, 4))):
        match draw(st.sampled_from(["text", "refusal", "reasoning", "source", "call", "cut call", "own"])):
            case "text":
                out += text(*draw(_WORDS), part=f"t{number}")
            case "refusal":
                out += refusal(*draw(_WORDS), part=f"t{number}")
            case "reasoning":
                name = f"r{number}"
                out += [ev.ReasoningStart(name), *(ev.ReasoningDelta(name, word) for word in draw(_WORDS))]
                out.append(ev.ReasoningEnd(name))
            case "source":
                source = ev.SourceUrl(f"s{number}", "https://x", draw(_TITLES))
                out.insert(draw(st.integers(0, len(out))), source)
            case "call":
                pieces = draw(st.sampled_from([(), ('{"a":1}',), ('{"a"', ":1}")]))
                out += call(f"c{number}", *pieces, value={"a": 1})
            case "cut call":
                out += [ev.ToolInputStart(f"c{number}", "weather"), ev.ToolInputDelta(f"c{number}", "{")]
                if draw(st.booleans()):
                    out.append(ev.ToolInputError(f"c{number}", "weather", "{", "not JSON"))
            case _:
                out += [*call(f"c{number}", value={}, name="search"), ev.ToolOutputAvailable(f"c{number}", 1)]
    return out


@st.composite
def random_logs(draw: st.DrawFn, wire: str) -> list[ev.Event]:
    """Draw a whole log: up to three attempts, each cut anywhere and continued or begun anew, and any end."""
    out: list[ev.Event] = [created(wire), attempt(1)]
    for number in range(2, 2 + draw(st.integers(0, 2))):
        whole = answer(*draw(contents()))[:-1]
        out += whole[: draw(st.integers(0, len(whole)))]
        out += [attempt(number), ev.Reset(1, "worker_lost")]
    reason: ev.FinishReason = draw(st.sampled_from(get_args(ev.FinishReason)))
    out += answer(*draw(contents()), reason=reason)
    usage = draw(st.sampled_from([None, USAGE]))
    state: ev.TerminalState = draw(st.sampled_from(get_args(ev.TerminalState)))
    return [*out, ev.End(state, 1, usage, FAILURE if state == "failed" else None)]
