"""Events: every one survives its JSON, the AI SDK's names stand, and no payload can break a line."""

from __future__ import annotations

import json
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events as ev
from shared.events import decode_event, encode_event, encode_json
from shared.feed import needs_action
from tests.support.events import ANY_EVENT, ONE_OF_EACH

LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@given(ANY_EVENT)
def test_an_event_survives_its_json(event: ev.Event) -> None:
    raw = encode_event(event)
    assert decode_event(raw) == event
    assert encode_event(decode_event(raw)) == raw


def test_there_is_an_example_of_every_event() -> None:
    kinds = set(typing.get_args(ev.Event))
    assert {type(event) for event in ONE_OF_EACH} == kinds


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_every_kind_survives_its_json_as_an_object_with_a_type(event: ev.Event) -> None:
    raw = encode_event(event)
    assert isinstance(json.loads(raw)["type"], str)
    assert decode_event(raw) == event


@pytest.mark.parametrize(
    ("event", "body"),
    [
        (ev.Start("m1"), {"type": "start", "messageId": "m1"}),
        (ev.TextDelta("t", "x"), {"type": "text-delta", "id": "t", "delta": "x"}),
        (
            ev.ToolInputAvailable("c", "f", {"snake_key": 1}),
            {"type": "tool-input-available", "toolCallId": "c", "toolName": "f", "input": {"snake_key": 1}},
        ),
        (
            ev.ToolInputDelta("c", "{"),
            {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": "{"},
        ),
        (ev.ToolOutputError("c", "no"), {"type": "tool-output-error", "toolCallId": "c", "errorText": "no"}),
        (
            ev.SourceDocument("s", "text/plain", "T"),
            {"type": "source-document", "sourceId": "s", "mediaType": "text/plain", "title": "T"},
        ),
        (ev.Finish("stop"), {"type": "finish", "finishReason": "stop"}),
        (ev.Finish(), {"type": "finish"}),
        (ev.Data("w", {"a": 1}, "i"), {"type": "data-w", "id": "i", "data": {"a": 1}}),
        (ev.Data("w", None, transient=True), {"type": "data-w", "data": None, "transient": True}),
        (ev.Attempt(2, "drain", "restart"), {"type": "attempt", "n": 2, "reason": "drain", "mode": "restart"}),
        (ev.Reset(1, "restart"), {"type": "reset", "keep_seq": 1, "reason": "restart"}),
    ],
)
def test_the_names_on_the_wire(event: ev.Event, body: dict[str, Any]) -> None:
    assert json.loads(encode_event(event)) == body


def test_a_terminal_entry_is_known_by_its_first_bytes() -> None:
    assert encode_event(ev.End("done")).startswith(b'{"type":"end"')


@given(st.text() | st.text(LINE_BREAKS + "ab"))
def test_no_payload_can_break_a_line(text: str) -> None:
    raw = encode_event(ev.Data(text, {text: [text]}, id=text))
    decoded = raw.decode()
    assert not any(char in decoded for char in LINE_BREAKS)
    assert decoded.splitlines() == [decoded]
    assert json.loads(raw)["data"] == {text: [text]}


def test_only_line_separators_are_escaped() -> None:
    assert encode_json("é💬\u2028\u2029\x85\u00a0") == '"é💬\\u2028\\u2029\\u0085\u00a0"'.encode()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"text-gamma","x":[1, 2]}',
        b'{"type":"","x":1}',
        b'{"type":"text-delta"}',
        b'{"type":"text-delta","id":"t","delta":5}',
        b'{"type":"end","state":"exploded"}',
        b'{ "type" : "x" }',
    ],
)
def test_what_this_release_does_not_know_is_passed_on_verbatim(raw: bytes) -> None:
    event = decode_event(raw)
    assert isinstance(event, ev.Unknown)
    assert event.type == json.loads(raw)["type"]
    assert encode_event(event) == raw


def test_a_newer_releases_additional_field_is_no_obstacle() -> None:
    assert decode_event(b'{"type":"text-delta","id":"t","delta":"x","novel":1}') == ev.TextDelta("t", "x")


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"null", b"[]", b'"x"', b"1", b"{}", b'{"type":null}', b'{"type":5}', b"\xff", b'{"type":"x"} {}'],
)
def test_what_is_no_event_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"log entry|JSON|truncated"):
        decode_event(raw)


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_but_value_error(raw: bytes) -> None:
    try:
        decode_event(raw)
    except ValueError:
        pass


DEEP = 200_000
"""Levels that are too many for every release of Python; some take ten thousand."""


@pytest.mark.parametrize(("head", "kind"), [(b'{"type":"data-x","data":', "data-x"), (b'{"type":"new","x":', "new")])
def test_what_is_nested_too_deeply_to_be_decoded_is_passed_on_verbatim(head: bytes, kind: str) -> None:
    raw = head + b"[" * DEEP + b"]" * DEEP + b"}"
    assert decode_event(raw) == ev.Unknown(kind, raw)
    with pytest.raises(ValueError, match="with a type"):
        decode_event(b"[" * DEEP)
    assert not needs_action(b'{"parts":[{"type":"tool","input":' + b"[" * DEEP)


@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}"), ('["]",', "]"), ('["\\\\\\"[",[],', "]")])
def test_only_depth_is_depth(pair: tuple[str, str]) -> None:
    def nested(levels: int) -> bytes:
        return f"{pair[0] * (levels - 1)}[]{pair[1] * (levels - 1)}".encode()

    assert not ev.too_deep(nested(ev.DEEPEST))
    assert ev.too_deep(nested(ev.DEEPEST + 1))
    assert not ev.too_deep(b"[" + b'[{}, "]["],' * 1_000 + b"[]]")


def test_odd_data_parts_are_read() -> None:
    assert decode_event(b'{"type":"data-"}') == ev.Data("", None)
    assert decode_event(b'{"type":"data-x","id":7,"data":1}') == ev.Data("x", 1)
    assert decode_event(b'{"type":"data-x","data":1,"transient":"yes"}') == ev.Data("x", 1)


def test_usage_adds_up() -> None:
    assert ev.Usage(1, 2, 3, 4, 5) + ev.Usage(10, 20, 30, 40, 50) == ev.Usage(11, 22, 33, 44, 55)


def test_every_content_event_is_an_event() -> None:
    assert set(typing.get_args(ev.ContentEvent)) < set(typing.get_args(ev.Event))
    controls = set(typing.get_args(ev.Event)) - set(typing.get_args(ev.ContentEvent))
    assert {kind.__name__ for kind in controls} == {
        "Created",
        "Attempt",
        "Reset",
        "Upstream",
        "UsageSoFar",
        "End",
        "Unknown",
    }
    assert all(issubclass(kind, msgspec.Struct) for kind in controls)
