"""Requests as stored and jobs as queued: the same bytes for the same request, and JSON all the way."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs import (
    GenerationRequest,
    decode_job_value,
    decode_request,
    encode_job_value,
    encode_request,
)
from tests.support.events import JSON

FREE_FORM = st.dictionaries(st.text(max_size=4), JSON, max_size=3)
REQUESTS = st.builds(
    GenerationRequest, st.text(max_size=5), st.lists(FREE_FORM, max_size=2), FREE_FORM, st.text(max_size=3), FREE_FORM,
    FREE_FORM,
)  # fmt: skip


@given(REQUESTS)
def test_a_request_survives_its_json(request: GenerationRequest) -> None:
    assert decode_request(encode_request(request)) == request


def test_equal_requests_have_equal_bytes_whatever_the_order_of_their_keys() -> None:
    one = GenerationRequest("m", [{"role": "user", "content": "x"}], {"a": 1, "b": {"c": 2, "d": 3}})
    other = GenerationRequest("m", [{"content": "x", "role": "user"}], {"b": {"d": 3, "c": 2}, "a": 1})
    assert encode_request(one) == encode_request(other)


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"model":"m"}', b'{"model":1,"messages":[]}', b"[]"])
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_request(raw)


@given(JSON)
def test_queue_values_are_json(value: object) -> None:
    assert decode_job_value(encode_job_value(value)) == value


@pytest.mark.parametrize(
    ("message", "called"),
    [
        ({"tool_calls": [{"id": "c1", "type": "function"}, {"id": "c2"}]}, {"c1", "c2"}),
        ({"tool_calls": [{"id": 1}, {}, "c1", None]}, set()),
        ({"tool_calls": "c1"}, set()),
        ({"role": "user"}, set()),
    ],
)
def test_the_calls_of_a_conversation_are_known_by_their_ids(message: dict[str, object], called: set[str]) -> None:
    assert GenerationRequest("m", [message]).called == called
