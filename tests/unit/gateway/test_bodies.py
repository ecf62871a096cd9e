"""Request bodies: whatever the bytes, the result is a checked body or an error of the 400s."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bodies import DEEPEST, MOST_VALUES, StartBody, check_size, parse_start
from shared.errors import InvalidRequest
from shared.jobs import GenerationRequest, decode_request, encode_request

USER = {"role": "user", "content": "hi"}


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": [USER], **fields}).encode()


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * levels + b"1" + closing * levels


def test_a_body_keeps_every_field_of_its_messages() -> None:
    messages = [
        {"role": "system", "content": "be kind", "name": "n"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "assistant", "reasoning_content": "hm", "content": ""},
    ]
    parsed = parse_start(body(messages=messages, params={"temperature": 0.5}, metadata={"k": [1]}, policy="replace"))
    assert parsed.messages == messages
    assert parsed.params == {"temperature": 0.5}
    assert (parsed.model, parsed.message_id, parsed.policy) == ("", None, "replace")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"{",
        b"\xff\xfe",
        b'{"messages": "\xff"}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'\xef\xbb\xbf{"messages": []}',
        b'{"messages": [NaN]}',
        b'{"messages": [' + b"1" * 5000 + b"]}",
        body(messages=[]),
        body(messages={}),
        body(messages=["hi"]),
        body(messages=[{"content": "no role"}]),
        body(messages=[{"role": "robot", "content": "x"}]),
        body(messages=[{"role": 1, "content": "x"}]),
        body(messages=[{"role": "user", "content": 7}]),
        body(messages=[{"role": "user", "content": ["text"]}]),
        body(messages=[{"role": "user", "content": [{"text": "no type"}]}]),
        body(model=7),
        body(model=None),
        body(params=[]),
        body(policy="queue"),
        body(message_id=5),
        body(mesages=[]),
        body() + b"x",
    ],
)
def test_what_is_no_start_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_start(raw)
    assert 0 < len(str(caught.value)) <= 320


@pytest.mark.parametrize("levels", [DEEPEST, 900, 1100, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_json_is_a_client_error(levels: int, opening: bytes, closing: bytes) -> None:
    deep = nested(levels, opening, closing)
    for raw in (
        deep,
        b'{"messages": [{"role": "user", "content": ' + deep + b"}]}",
        body()[:-1] + b',"params":' + deep,
    ):
        with pytest.raises(InvalidRequest):
            parse_start(raw + (b"}" if raw.startswith(body()[:-1]) else b""))


def test_nesting_that_real_requests_have_is_accepted() -> None:
    schema: Any = {"type": "string"}
    for _ in range(20):
        schema = {"type": "object", "properties": {"inner": schema}}
    parse_start(body(params={"tools": [{"type": "function", "function": {"parameters": schema}}]}))


def test_a_body_of_very_many_values_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="values"):
        parse_start(b'{"messages": [' + b"[]," * MOST_VALUES + b"[]]}")


@given(st.binary(max_size=300))
def test_any_bytes_give_a_body_or_a_client_error(raw: bytes) -> None:
    try:
        assert isinstance(parse_start(raw), StartBody)
    except InvalidRequest:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)


@given(json_values, json_values)
def test_what_is_accepted_can_be_stored_and_read_back(content: Any, extra: Any) -> None:
    raw = json.dumps({"messages": [{"role": "user", "content": content, "x": extra}], "params": {"p": extra}}).encode()
    try:
        parsed = parse_start(raw)
    except InvalidRequest:
        return
    request = GenerationRequest("m", parsed.messages, parsed.params)
    assert decode_request(encode_request(request)) == request


def test_the_size_check_stops_at_its_bounds() -> None:
    check_size([[0] * 1000] * 10)
    with pytest.raises(InvalidRequest, match="values"):
        check_size([[0] * 1000] * (MOST_VALUES // 1000 + 1))
