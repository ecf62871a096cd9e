"""What of an upstream's own words and errors reaches viewers and logs."""

from __future__ import annotations

import io
import json
import logging

import pytest

from shared.logs import JsonLines
from worker.upstreams.base import clean
from worker.upstreams.failures import from_event, from_status, retry_after_s


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        ("Incorrect API key provided: sk-proj-abc123XYZ.", "abc123"),
        ("Incorrect API key provided: sk-proj-***************wxyz. You can find", "wxyz"),
        ("Incorrect API key provided: abcd1234*********wxyz.", "wxyz"),
        ("Received API Key = sk-...wxyz", "wxyz"),
        ("Project `proj_AbCdEfGhIjKlMnOpQrStUvWx` has no access", "AbCdEf"),
        ("Your organization org-AbCdEfGh12345678 must be verified", "AbCdEf"),
        ("Authorization: Bearer abcdef was wrong", "abcdef"),
        ("File /usr/lib/python3/site-packages/x.py failed", "site-packages"),
        (r"File C:\Users\me\model.bin failed", "Users"),
        ("see https://user:pw@internal.example/x", "internal"),
        ("cannot connect to 10.1.2.3:8000", "10.1.2.3"),
        ("token 0123456789abcdef0123456789abcdef0123", "0123456789abcdef"),
    ],
)
def test_secrets_and_places_are_left_out(said: str, secret: str) -> None:
    assert secret in said
    assert secret not in clean(said)


def test_the_rest_is_kept_on_one_short_line() -> None:
    assert clean("'max_tokens' is too\n large:\t5000\x1b[31m!") == "'max_tokens' is too large: 5000 [31m!"
    assert len(clean("word " * 500)) <= 200


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-retry-after": "1.5"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:10 GMT"}, 10.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "NaN"}, None),
        ({"retry-after-ms": "NaN", "retry-after": "3"}, 3.0),
        ({"x-retry-after": "Infinity"}, None),
    ],
)
def test_retry_after_in_every_form(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, 1_445_412_480.0) == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("plain string", "upstream_error"),
        ({"message": "x", "type": None, "code": "500"}, "upstream_error"),
        ({"message": "x", "code": 400}, "upstream_rejected"),
        ({"message": "x", "code": "429"}, "upstream_rate_limited"),
        ({"message": "The server is overloaded"}, "upstream_rate_limited"),
        ({"code": "rate_limit_exceeded"}, "upstream_rate_limited"),
        ({"type": "invalid_request_error", "message": "x"}, "upstream_rejected"),
        ([{"message": "x"}], "upstream_error"),
        (None, "upstream_error"),
        (7, "upstream_error"),
    ],
)
def test_errors_inside_a_stream_in_every_shape(error: object, code: str) -> None:
    assert from_event(error).code == code


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("context_length_exceeded", "context_length_exceeded"), ("content_filter", "content_filter"),
        ("insufficient_quota", "insufficient_quota"), ("internal-cluster-7", None), (None, None), (400, None),
        (["content_filter"], None),
    ],
)  # fmt: skip
def test_only_codes_that_clients_act_upon_are_told(said: object, told: str | None) -> None:
    body = {"message": "x", "type": "invalid_request_error", "code": said}
    assert from_event(body).upstream_code == told
    for status in (400, 429, 500):
        assert from_status(status, body, {}, 0.0).upstream_code == told
    assert from_status(400, "content_filter", {}, 0.0).upstream_code is None


def test_a_logged_exception_shows_where_but_never_what_it_said() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines("worker"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("the user's prompt")
    except ValueError:
        logger.exception("attempt broke", extra={"chat_id": "c\n1"})
    assert "prompt" not in out.getvalue()
    line = json.loads(out.getvalue())
    assert (line["event"], line["error_type"], line["chat_id"], line["service"]) == (
        "attempt broke",
        "ValueError",
        "c\n1",
        "worker",
    )
    assert "test_upstream_errors.py" in line["frames"][0]
