"""What a server refuses of our own additions is left out from then on; what a client asked for is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.worker.conftest import Caller, said
from tests.unit.worker.raw_server import DONE, HEAD, STOP, chunk, raw_server, status
from worker.upstreams.base import UpstreamError

ANSWER = [HEAD, chunk({"content": "Hello"}), STOP, DONE]


def extra(*where: str) -> dict[str, Any]:
    """Return what Mistral says of a parameter that it does not know."""
    detail = [{"type": "extra_forbidden", "loc": ["body", *where], "msg": "Extra inputs are not permitted", "input": 1}]
    return {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error", "code": None}


def unrecognized(name: str) -> dict[str, Any]:
    """Return what OpenAI (and Azure, in older versions of its API) says of one."""
    message = f"Unrecognized request argument supplied: {name}"
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def quoted(name: str) -> dict[str, Any]:
    """Return what vLLM said of one in older releases."""
    message = f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}'), 'msg': 'Extra inputs are not permitted'}}]"
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        (422, extra("stream_options", "include_usage")),
        (400, unrecognized("stream_options")),
        (400, quoted("stream_options")),
    ],
)
async def test_who_refuses_to_be_asked_for_usage_is_not_asked_again(
    caller: Caller, code: int, refusal: dict[str, Any]
) -> None:
    async with raw_server(status(code, json.dumps(refusal).encode()), ANSWER) as server:
        upstream = caller.upstream(server.url)
        assert said(await caller.call(upstream)) == "Hello"
        assert [body.get("stream_options") for body in server.bodies] == [{"include_usage": True}, None]
        await caller.call(upstream)
        assert "stream_options" not in server.bodies[2]
        await caller.call(caller.upstream(server.url, upstream_model="another"))
        assert "stream_options" in server.bodies[3]


THOUGHTFUL: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]},
    {"role": "tool", "tool_call_id": "c1", "content": "1"},
]  # fmt: skip


def unsupported(name: str) -> dict[str, Any]:
    """Return what Groq says of a message's field."""
    message = (
        "'messages.1' : for 'role:assistant' the following must be satisfied"
        f"[('messages.1' : property '{name}' is unsupported)]"
    )
    return {"error": {"message": message, "type": "invalid_request_error"}}


def second_messages(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [body["messages"][1] for body in bodies]


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        (422, extra("messages", "1", "assistant", "reasoning_content")),
        (400, unsupported("reasoning_content")),
    ],
)
async def test_who_refuses_thoughts_in_messages_is_told_none(
    caller: Caller, code: int, refusal: dict[str, Any]
) -> None:
    async with raw_server(status(code, json.dumps(refusal).encode()), ANSWER) as server:
        upstream = caller.upstream(server.url)
        assert said(await caller.call(upstream, THOUGHTFUL)) == "Hello"
        await caller.call(upstream, THOUGHTFUL)
    told = second_messages(server.bodies)
    assert [message.get("reasoning_content") for message in told] == ["Hm.", None, None]
    assert all(message["tool_calls"] for message in told)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"reasoning": "Hm."}, "reasoning"),
        ({"reasoning": "Hm.", "reasoning_content": "Hm."}, "reasoning_content"),
        ({"reasoning_content": "Hm."}, "reasoning_content"),
        ({"content": "Hm."}, "reasoning_content"),
    ],
)
async def test_a_server_is_told_thoughts_under_the_name_under_which_it_tells_its_own(
    caller: Caller, told: dict[str, str], name: str
) -> None:
    async with raw_server([HEAD, chunk(told), STOP, DONE], ANSWER) as server:
        upstream = caller.upstream(server.url)
        for _ in range(3):
            await caller.call(upstream, THOUGHTFUL)
    for message in second_messages(server.bodies)[1:]:
        assert {key: value for key, value in message.items() if key.startswith("reasoning")} == {name: "Hm."}


async def test_who_refuses_a_parameter_of_the_same_name_is_told_thoughts_as_before(caller: Caller) -> None:
    refusal = status(400, json.dumps(unrecognized("reasoning")).encode())
    async with raw_server([HEAD, chunk({"reasoning": "Hm."}), STOP, DONE], refusal, ANSWER) as server:
        upstream = caller.upstream(server.url)
        await caller.call(upstream, THOUGHTFUL)
        with pytest.raises(UpstreamError):
            await caller.call(upstream, THOUGHTFUL, reasoning={"enabled": True})
        await caller.call(upstream, THOUGHTFUL)
    assert second_messages(server.bodies)[2]["reasoning"] == "Hm."


@pytest.mark.parametrize(
    "message",
    [
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
    ],
)
async def test_who_wants_more_thoughts_is_not_told_fewer(caller: Caller, message: str) -> None:
    refusal = {"error": {"message": message, "type": "invalid_request_error"}}
    async with raw_server(status(400, json.dumps(refusal).encode()), ANSWER) as server:
        upstream = caller.upstream(server.url)
        with pytest.raises(UpstreamError):
            await caller.call(upstream, THOUGHTFUL)
        await caller.call(upstream, THOUGHTFUL)
    assert [message.get("reasoning_content") for message in second_messages(server.bodies)] == ["Hm."] * 2


async def test_a_server_that_knows_the_old_name_of_a_limit_alone_is_told_it_by_that(caller: Caller) -> None:
    usage = status(422, json.dumps(extra("stream_options", "include_usage")).encode())
    limit = status(422, json.dumps(extra("max_completion_tokens")).encode())
    async with raw_server(usage, limit, ANSWER) as server:
        assert said(await caller.call(caller.upstream(server.url), max_completion_tokens=5)) == "Hello"
    assert [body.get("max_completion_tokens") for body in server.bodies] == [5, 5, None]
    assert [body.get("max_tokens") for body in server.bodies] == [None, None, 5]


@pytest.mark.parametrize(
    "refusal",
    [
        extra("temperature"),
        extra("max_completion_tokens"),  # which was not sent
        unrecognized("stream_options_of_mine"),
        {"error": {"message": "max_completion_tokens is too large", "param": "max_completion_tokens"}},
        "stream_options",
        ["stream_options", None],
    ],
)
async def test_any_other_refusal_is_told_and_changes_nothing(caller: Caller, refusal: object) -> None:
    async with raw_server(status(400, json.dumps(refusal).encode()), ANSWER) as server:
        upstream = caller.upstream(server.url)
        with pytest.raises(UpstreamError) as caught:
            await caller.call(upstream, temperature=1)
        assert caught.value.code == "upstream_rejected"
        assert len(server.bodies) == 1
        await caller.call(upstream)
        assert "stream_options" in server.bodies[1]


async def test_a_server_that_refuses_the_same_again_is_not_asked_for_ever(caller: Caller) -> None:
    async with raw_server(status(400, json.dumps(unrecognized("stream_options")).encode())) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url))
    assert caught.value.code == "upstream_rejected"
    assert len(server.bodies) == 2
