"""Owns hypothesis strategies for events: valid and odd ones, with few ids so that events meet each other's parts."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec import UNSET

from shared import events as ev

ID = st.sampled_from(["a", "b", ""])
TEXT = st.text(max_size=6)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
METADATA = st.dictionaries(ID, JSON | st.dictionaries(ID, JSON, max_size=2), max_size=2)
MAYBE_METADATA = st.just(UNSET) | METADATA
MAYBE_TEXT = st.just(UNSET) | TEXT
USAGE = st.builds(ev.Usage, *(st.integers(0, 9) for _ in range(5)))
FAILURE = st.builds(ev.Failure, st.sampled_from(["upstream_error", "lost"]), TEXT)

KNOWN: list[st.SearchStrategy[ev.Event]] = [
    st.builds(ev.Start, ID, MAYBE_METADATA),
    st.just(ev.StartStep()),
    st.just(ev.FinishStep()),
    st.builds(ev.TextStart, ID, st.booleans()),
    st.builds(ev.TextDelta, ID, TEXT),
    st.builds(ev.TextEnd, ID),
    st.builds(ev.ReasoningStart, ID),
    st.builds(ev.ReasoningDelta, ID, TEXT),
    st.builds(ev.ReasoningEnd, ID),
    st.builds(ev.ToolInputStart, ID, TEXT),
    st.builds(ev.ToolInputDelta, ID, TEXT),
    st.builds(ev.ToolInputAvailable, ID, TEXT, JSON),
    st.builds(ev.ToolInputError, ID, TEXT, JSON, TEXT),
    st.builds(ev.ToolOutputAvailable, ID, JSON),
    st.builds(ev.ToolOutputError, ID, TEXT),
    st.builds(ev.SourceUrl, ID, TEXT, MAYBE_TEXT),
    st.builds(ev.SourceDocument, ID, TEXT, TEXT, MAYBE_TEXT),
    st.builds(ev.File, TEXT, TEXT),
    st.builds(ev.MessageMetadata, METADATA),
    st.builds(ev.Finish, st.just(UNSET) | st.sampled_from(["stop", "length", "tool-calls"]), MAYBE_METADATA),
    st.just(ev.Abort()),
    st.builds(ev.Error, TEXT),
    st.builds(ev.Created, ID, ID, TEXT, st.integers(0, 2**32), st.just("native"), METADATA),
    st.builds(
        ev.Attempt,
        st.integers(1, 9),
        st.sampled_from(["first", "worker_lost", "drain"]),
        st.sampled_from(["start", "reattach", "continue", "restart"]),
    ),
    st.builds(ev.Reset, st.integers(1, 9), TEXT),
    st.builds(ev.Upstream, TEXT),
    st.builds(ev.UsageSoFar, USAGE),
    st.builds(
        ev.End,
        st.sampled_from(["done", "failed", "aborted"]),
        st.integers(0, 9),
        st.none() | USAGE,
        st.none() | FAILURE,
    ),
]
DATA = st.builds(ev.Data, ID, JSON, st.none() | ID, st.booleans())
UNKNOWN = st.builds(
    lambda name, value: ev.decode_event(ev.encode_json({"type": f"novel-{name}", "v": value})), ID, JSON
)
ANY_EVENT: st.SearchStrategy[ev.Event] = st.one_of(*KNOWN, DATA, UNKNOWN)

ONE_OF_EACH: list[ev.Event] = [
    ev.Start("m", {"a": 1}), ev.StartStep(), ev.FinishStep(), ev.TextStart("t"), ev.TextDelta("t", "x"),
    ev.TextEnd("t"), ev.ReasoningStart("r"), ev.ReasoningDelta("r", "x"), ev.ReasoningEnd("r"),
    ev.ToolInputStart("c", "f"), ev.ToolInputDelta("c", "{"), ev.ToolInputAvailable("c", "f", {"a": [None, 1.5]}),
    ev.ToolInputError("c", "f", "{", "bad"), ev.ToolOutputAvailable("c", {"b": 2}), ev.ToolOutputError("c", "no"),
    ev.SourceUrl("s", "https://example.org", "T"), ev.SourceDocument("s", "text/plain", "T", "f.txt"),
    ev.File("https://example.org/a.png", "image/png"), ev.MessageMetadata({"a": {"b": 1}}),
    ev.Finish("stop", {"a": 1}), ev.Abort(), ev.Error("no"), ev.Created("c", "m", "model", 1, "native", {"o": 1}),
    ev.Attempt(2, "worker_lost", "continue"), ev.Reset(1, "restart"), ev.Upstream("u"),
    ev.UsageSoFar(ev.Usage(1, 2, 3)),
    ev.End("failed", 2, ev.Usage(1, 2, 3), ev.Failure("upstream_error", "no")),
    ev.Data("w", {"x": 1}, "i", True), ev.Unknown("novel", b'{"type":"novel"}'),
]  # fmt: skip
