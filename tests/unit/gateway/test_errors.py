"""Every error becomes one shape; what we do not expect tells nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

import shared.errors as errors
from gateway.errors import TABLE, ErrorBoundary, answer
from shared.errors import ChatBusy, TailraceError


def all_errors() -> list[type[TailraceError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, TailraceError)]
    assert len(found) > 15
    return found


def make(kind: type[TailraceError], text: str = "a sentence") -> TailraceError:
    return ChatBusy("msg_1") if kind is ChatBusy else kind(text)


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_has_a_status_and_the_one_shape(kind: type[TailraceError]) -> None:
    response = answer(make(kind))
    assert kind.code in TABLE
    body = json.loads(bytes(response.body))
    assert list(body) == ["error"]
    assert body["error"]["code"] == kind.code
    assert body["error"]["message"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)


@pytest.mark.parametrize("kind", all_errors())
def test_what_may_be_repeated_says_when_and_nothing_else_does(kind: type[TailraceError]) -> None:
    """SDKs repeat 408, 409, 429 and 5xx by themselves, so each of these must be meant."""
    response = answer(make(kind))
    if response.status_code in (409, 429) or response.status_code >= 500:
        assert ("retry-after" in response.headers) == kind.retryable
        assert (response.headers.get("x-should-retry") == "false") != kind.retryable


def test_a_busy_chat_names_the_active_message() -> None:
    assert json.loads(bytes(answer(ChatBusy("msg_1")).body))["error"]["active_message_id"] == "msg_1"


def test_codes_that_would_tell_of_the_inside_do_not() -> None:
    for kind in (errors.Unavailable, errors.StorageFull, errors.UnsafeRedis, TailraceError):
        assert b"10.0.0.7" not in bytes(answer(kind("connect to 10.0.0.7 failed")).body)


async def run(raising: Exception, *, begun: bool) -> list[Message]:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise raising

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await ErrorBoundary(app)(scope, receive, send)
    return sent


async def test_an_unknown_exception_is_logged_and_answered_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        sent = await run(RuntimeError("canary"), begun=False)
    assert sent[0]["status"] == 500
    assert b"canary" not in sent[1]["body"]
    assert json.loads(sent[1]["body"])["error"]["code"] == "internal_error"
    assert (b"x-should-retry", b"false") in sent[0]["headers"]
    assert caplog.records[0].exc_info is not None


async def test_a_refusal_of_the_router_has_the_same_shape() -> None:
    sent = await run(HTTPException(405, headers={"Allow": "GET"}), begun=False)
    assert sent[0]["status"] == 405
    assert (b"allow", b"GET") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("raising", [RuntimeError("x"), errors.Unavailable("x"), HTTPException(404)])
async def test_an_answer_that_has_begun_is_broken_not_ended(raising: Exception) -> None:
    with pytest.raises(type(raising)):
        await run(raising, begun=True)


async def test_cancellation_passes() -> None:
    with pytest.raises(asyncio.CancelledError):
        await run(asyncio.CancelledError(), begun=False)  # type: ignore[arg-type]
