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
