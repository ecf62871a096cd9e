"""The Chat Completions upstream over a real socket: what servers send in the wild, and what becomes of it."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from shared import events as ev
from tests.unit.worker.conftest import Caller, said, thought
from tests.unit.worker.raw_server import DONE, HEAD, STOP, chunk, raw_server, sse, status
from worker.upstreams.base import UpstreamError

HELLO = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}), chunk({"content": "lo ü€😀"})]
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "completion_tokens_details": {"reasoning_tokens": 2},
    "prompt_tokens_details": {"cached_tokens": 3},
}
COUNTED = ev.Usage(7, 5, 12, 2, 3)


def whole(*parts: bytes) -> list[bytes]:
    return [HEAD, *parts]


def no_stream(body: object) -> list[bytes]:
    return status(200, json.dumps(body, indent=1).encode())


def finish(events: list[ev.Event]) -> Any:
    last = events[-1]
    assert isinstance(last, ev.Finish)
    return last.finish_reason


def split(raw: bytes, size: int = 1) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


GOOD = {
    "plain": [*HELLO, STOP, DONE],
    "no done": [*HELLO, STOP],
    "no role": [*HELLO[1:], STOP, DONE],
    "role in every chunk": [chunk({"role": "assistant", "content": t}) for t in ("Hel", "lo ü€😀")] + [STOP, DONE],
    "finish on the last content": [HELLO[1], chunk({"content": "lo ü€😀"}, finish_reason="stop"), DONE],
    "finish twice": [*HELLO, STOP, STOP, DONE],
    "an empty reason in every chunk": [
        *(chunk({"content": text}, finish_reason="") for text in ("Hel", "lo ü€😀")),
        chunk(finish_reason="stop"),
        DONE,
    ],
    "the word null for no reason": [
        *(chunk({"content": text}, finish_reason="null") for text in ("Hel", "lo ü€😀")),
        STOP,
        DONE,
    ],
    "empty choices first": [sse({"choices": [], "prompt_filter_results": []}), *HELLO, STOP, DONE],
    "null content and null error": [chunk({"content": None}, error=None), *HELLO, STOP, DONE],
    "comments and pings": [b": OPENROUTER PROCESSING\n\n", *HELLO, b": ping\n\n", STOP, DONE],
    "all in one": [b"".join([*HELLO, STOP, DONE])],
    "crlf": [b"".join([*HELLO, STOP, DONE]).replace(b"\n", b"\r\n")],
    "carriage returns": [b"".join([*HELLO, STOP, DONE]).replace(b"\n", b"\r")],
    "no space after the colon": [b"".join([*HELLO, STOP, DONE]).replace(b"data: ", b"data:")],
    "byte order mark": [b"\xef\xbb\xbf", *HELLO, STOP, DONE],
    "bytes one by one": split(b"".join([*HELLO, STOP, DONE])),
    "odd pieces": split(b"".join([*HELLO, STOP, DONE]).replace(b"\n", b"\r\n"), 7),
    "junk after the end": [*HELLO, STOP, b"data: not json\n\n"],
    "other choices of n": [*HELLO, sse({"choices": [{"index": 1, "delta": {"content": "X"}}]}), STOP, DONE],
    "all of it again at the end": [
        *HELLO,
        sse({"choices": [{"index": 0, "message": {"content": "Hello ü€😀"}, "finish_reason": "stop"}]}),
        DONE,
    ],
    "choice without delta": [*HELLO, sse({"choices": [{"index": 0}]}), STOP, DONE],
    "index left out": [sse({"choices": [{"delta": {"content": "Hello ü€😀"}}]}), STOP, DONE],
}


@pytest.mark.parametrize("name", GOOD)
async def test_an_answer_in_any_of_these_forms_is_the_same_answer(caller: Caller, name: str) -> None:
    async with raw_server(whole(*GOOD[name])) as server:
        events = await caller.call(caller.upstream(server.url))
    assert said(events) == "Hello ü€😀"
    assert finish(events) == "stop"
    assert len(server.requests) == 1


@pytest.mark.parametrize("coding", ["gzip", "GZip", "deflate", "identity"])
async def test_a_stream_in_a_content_coding_is_decoded(caller: Caller, coding: str) -> None:
    body = b"".join([*HELLO, STOP, DONE])
    packed = {"gzip": gzip.compress(body), "deflate": zlib.compress(body)}.get(coding.lower(), body)
    head = HEAD.replace(b"\r\n\r\n", f"\r\nContent-Encoding: {coding}\r\n\r\n".encode())
    async with raw_server([head, *split(packed, 11)]) as server:
        events = await caller.call(caller.upstream(server.url))
    assert (said(events), finish(events)) == ("Hello ü€😀", "stop")


@pytest.mark.parametrize(
    "parts",
    [
        [*HELLO, chunk(finish_reason="stop", usage=USAGE), DONE],
        [*HELLO, STOP, sse({"choices": [], "usage": USAGE}), DONE],
        [*HELLO, STOP, sse({"choices": [{"delta": {}}], "usage": USAGE})],
        [sse({"choices": [], "usage": USAGE}), *HELLO, STOP, DONE],
        [chunk({"content": "Hello"}, usage={**USAGE, "total_tokens": 1}), chunk(finish_reason="stop", usage=USAGE)],
    ],
    ids=["on finish", "after finish", "in an empty delta", "first", "running"],
)
async def test_usage_is_found_wherever_it_stands(caller: Caller, parts: list[bytes]) -> None:
    async with raw_server(whole(*parts)) as server:
        await caller.call(caller.upstream(server.url))
    assert caller.usage == COUNTED


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "h"}, {"type": "reasoning.text", "text": "m"}]},
        {"reasoning_content": "hm", "reasoning": "hm", "reasoning_details": [{"text": "hm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"reasoning": "hm", "content": ""},
    ],
)
async def test_reasoning_is_told_once_under_whichever_name(caller: Caller, delta: dict[str, Any]) -> None:
    async with raw_server(whole(chunk(delta), chunk({"content": "ok"}), STOP, DONE)) as server:
        events = await caller.call(caller.upstream(server.url))
    assert (thought(events), said(events)) == ("hm", "ok")


async def test_a_server_that_does_not_stream_is_called_once_and_its_answer_taken_whole(caller: Caller) -> None:
    call = {"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    message = {"role": "assistant", "content": "Hello ü€😀", "reasoning_content": "hm", "tool_calls": [call]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    async with raw_server(no_stream({"object": "chat.completion", "choices": [choice], "usage": USAGE})) as server:
        events = await caller.call(caller.upstream(server.url))
    assert (thought(events), said(events), finish(events)) == ("hm", "Hello ü€😀", "tool-calls")
    assert events[-2] == ev.ToolInputAvailable("c0", "f", {"a": 1})
    assert caller.usage == COUNTED
    assert len(server.requests) == 1


async def test_an_error_under_the_status_200_is_what_it_says(caller: Caller) -> None:
    async with raw_server(no_stream({"error": {"code": 402, "message": "Out of credits"}})) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url))
    assert caught.value.code == "upstream_rejected"
    assert "Out of credits" in str(caught.value)
    assert len(server.requests) == 1


async def test_a_chunk_that_is_nested_too_deeply_is_not_in_the_form_expected(caller: Caller) -> None:
    deep = b'data: {"choices":[{"delta":{"content":' + b"[" * 3_000 + b"}}]}\n\n"
    async with raw_server(whole(deep)) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url))
    assert caught.value.code == "upstream_error"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("length", "length"), ("content_filter", "content-filter"), ("eos", "stop"), ("who knows", "other"), (3, "other")],
)
async def test_finish_reasons_become_those_that_every_client_knows(
    caller: Caller, reason: object, expected: str
) -> None:
    async with raw_server(whole(*HELLO, chunk(finish_reason=reason), DONE)) as server:
        assert finish(await caller.call(caller.upstream(server.url))) == expected


OPENROUTER = sse(
    {
        "error": {"code": 429, "message": "Provider disconnected"},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
    }
)
LATE = {
    "end without a reason": ([*HELLO], "upstream_interrupted"),
    "done without a reason": ([*HELLO, DONE], "upstream_interrupted"),
    "done with an empty reason": ([*HELLO, chunk(finish_reason=""), DONE], "upstream_interrupted"),
    "error object": ([*HELLO, sse({"error": {"message": "x", "type": None, "code": "500"}})], "upstream_error"),
    "error string": ([*HELLO, sse({"error": "CUDA out of memory at /srv/model.py"})], "upstream_error"),
    "error line that is no json": ([*HELLO, b"data: Internal error\n\n"], "upstream_error"),
    "detail": ([*HELLO, sse({"detail": "boom"})], "upstream_error"),
    "old vllm": ([*HELLO, sse({"object": "error", "message": "boom", "code": 500})], "upstream_error"),
    "rate limit": ([*HELLO, sse({"error": {"message": "Rate limit reached", "code": 429}})], "upstream_rate_limited"),
    "half a line": ([*HELLO, b'data: {"choices":[{"de'], "upstream_error"),
    "error beside choices": ([*HELLO, OPENROUTER, DONE], "upstream_rate_limited"),
    "error as the reason": ([*HELLO, chunk(finish_reason="error"), DONE], "upstream_error"),
    "abort as the reason": ([*HELLO, chunk(finish_reason="abort"), DONE], "upstream_interrupted"),
    "no resources": ([*HELLO, chunk(finish_reason="insufficient_system_resource"), DONE], "upstream_interrupted"),
    "no json at all": ([*HELLO, b"data: [1,2]\n\n"], "upstream_error"),
}


@pytest.mark.parametrize("name", LATE)
async def test_a_break_after_the_first_token_is_a_failure_and_never_a_second_call(caller: Caller, name: str) -> None:
    parts, code = LATE[name]
    async with raw_server(whole(*parts)) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url))
    assert caught.value.code == code
    assert said(caller.events) == "Hello ü€😀"
    assert len(server.requests) == 1
    assert "/srv" not in str(caught.value)


async def test_a_reset_in_mid_stream_is_an_interruption(caller: Caller) -> None:
    async with raw_server(whole(*HELLO), reset=True) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url))
    assert caught.value.code == "upstream_interrupted"


EARLY: dict[str, list[bytes]] = {
    "429": status(429, b'{"error":{"message":"slow down"}}', b"Retry-After: 0"),
    "429 in milliseconds": status(429, b"{}", b"retry-after-ms: 5"),
    "500 with text": status(500, b"Internal Server Error"),
    "529": status(529, b'{"detail":"overloaded"}'),
    "408": status(408),
    "nothing at all": [],
    "headers only": [HEAD],
    "done only": [HEAD, DONE],
    "role, then the end": [HEAD, HELLO[0]],
    "error beside choices": whole(OPENROUTER, DONE),
    "abort as the reason": whole(chunk(finish_reason="abort"), DONE),
    "error first": [HEAD, sse({"error": {"message": "x", "code": 503}})],
}


@pytest.mark.parametrize("name", EARLY)
async def test_what_fails_before_the_first_token_is_tried_again(caller: Caller, name: str) -> None:
    async with raw_server(EARLY[name], whole(*HELLO, STOP, DONE)) as server:
        events = await caller.call(caller.upstream(server.url))
    assert said(events) == "Hello ü€😀"
    assert len(server.requests) == 2


async def test_a_refusal_in_place_of_text_is_a_part_that_says_so(caller: Caller) -> None:
    parts = [chunk({"role": "assistant", "content": "", "refusal": None}), chunk({"refusal": "I will "})]
    async with raw_server(whole(*parts, chunk({"refusal": "not."}), STOP, DONE)) as server:
        events = await caller.call(caller.upstream(server.url))
    assert events[1:-1] == [
        ev.TextStart("refusal", refusal=True), ev.TextDelta("refusal", "I will "), ev.TextDelta("refusal", "not."),
    ]  # fmt: skip


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
async def test_a_refusal_ends_at_once_with_a_clean_word(caller: Caller, code: int) -> None:
    body = b'{"error":{"message":"Bad key sk-abcdef123456 in /home/me/srv/app.py at https://10.0.0.7:9/x"}}'
    async with raw_server(status(code, body)) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url))
    assert caught.value.code == "upstream_rejected"
    assert len(server.requests) == 1
    text = str(caught.value)
    assert str(code) in text
    assert "Bad key" in text
    for secret in ("sk-abcdef", "/home", "10.0.0.7", "https://"):
        assert secret not in text


@pytest.mark.parametrize("code", [429, 200])
async def test_a_quota_that_is_used_up_is_no_rate_to_wait_for(caller: Caller, code: int) -> None:
    error = {"error": {"message": "Check your plan.", "type": "insufficient_quota", "code": "insufficient_quota"}}
    async with raw_server(status(code, json.dumps(error).encode())) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url))
    assert caught.value.upstream_code == "insufficient_quota"
    assert len(server.requests) == 1


async def test_a_redirect_is_not_followed(caller: Caller) -> None:
    async with raw_server(status(302, b"", b"Location: http://169.254.169.254/latest/meta-data")) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url))
    assert caught.value.code == "upstream_error"
    assert len(server.requests) == 1


async def test_retries_end_with_their_budget(caller: Caller) -> None:
    async with raw_server(status(429, b"{}", b"Retry-After: 60")) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url, retry_s=0.5))
    assert caught.value.code == "upstream_rate_limited"
    assert len(server.requests) == 1


async def test_nobody_there_is_told_as_an_interruption(caller: Caller) -> None:
    async with raw_server([]) as server:
        pass
    with pytest.raises(UpstreamError) as caught:
        await caller.call(caller.upstream(server.url, retry_s=0.2))
    assert caught.value.code == "upstream_interrupted"


async def test_parameters_pass_through_and_ours_cannot_be_overridden(caller: Caller) -> None:
    async with raw_server(whole(*HELLO, STOP, DONE)) as server:
        await caller.call(
            caller.upstream(server.url, upstream_model="real"),
            temperature=0.5,
            top_k=3,
            brand_new={"x": 1},
            stream=False,
            model="evil",
            stream_options={"include_usage": False, "y": 2},
        )
    body = server.bodies[0]
    assert body["model"] == "real"
    assert body["stream"] is True
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert (body["temperature"], body["top_k"], body["brand_new"]) == (0.5, 3, {"x": 1})
    assert body["stream_options"] == {"include_usage": True, "y": 2}
    assert b"authorization: bearer sk-test-0123456789" in server.requests[0].lower()


async def test_a_character_cut_into_two_escapes_is_put_together_again(caller: Caller) -> None:
    parts = [
        b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ude00b"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ude00"}}]}\n\n',
    ]
    async with raw_server(whole(*parts, STOP, DONE)) as server:
        events = await caller.call(caller.upstream(server.url))
    assert said(events) == "a😀b\ufffd"
