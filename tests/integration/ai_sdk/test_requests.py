"""What `POST /api/chat` makes of the bodies that the AI SDK's transports and their users send."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from gateway.access.principal import LOCAL
from shared import events as ev
from shared.jobs import GenerationRequest, decode_request
from shared.link import Link
from shared.log.log import Log
from tests.support.gateway import live_gateway, settings_for
from tests.support.redis import RedisServer
from tests.support.ui_chat import CLOSED, TEXT, UiChat, kinds, read, user
from tests.support.wait import wait_until

ANSWER = {"role": "assistant", "content": "abc"}


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def asked(chat: UiChat) -> GenerationRequest:
    """Return what the message in flight was asked to do."""
    raw = await chat.log.request(chat.writer.ref)
    assert raw is not None
    return decode_request(raw)


def turn(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def test_what_belongs_to_the_model_reaches_it_and_nothing_else_does(chat: UiChat) -> None:
    await chat.post(
        model="other", temperature=0.5, max_tokens=5, tools=[], seed=None, system="Be brief.",
        base_url="http://example.org", api_key="x", n=3, stream=False, theme="dark",
    )  # fmt: skip
    request = await asked(chat)
    assert request.model == "other"
    assert request.messages == [{"role": "system", "content": "Be brief."}, turn("Hi")]
    assert request.params == {"temperature": 0.5, "max_tokens": 5, "tools": []}
    assert request.wire == "ui"


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"messages":[]}', b'{"messages":[{}]}', b'{"messages":"x"}',
    b'{"messages":[{"role":"robot","parts":[]}]}', b'{"messages":[{"role":"user","parts":[1]}]}',
    b'{"messages":[{"role":"user","parts":[]}]}', b'{"id":"","messages":[{"role":"user","content":"x"}]}',
    b'{"id":5,"messages":[{"role":"user","content":"x"}]}', b'{"messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"trigger":"resume","messages":[{"role":"user","content":"x"}]}', b"\xff", b'{"trigger":"regenerate-message"}',
    b'{"model":"none such","messages":[{"role":"user","content":"x"}]}', b'{"messages":' + b"[" * 200,
    b'{"temperature":"hot","messages":[{"role":"user","content":"x"}]}',
])  # fmt: skip
async def test_a_body_that_cannot_be_answered_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    refused = await client.post("/api/chat", content=body)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["code"] in ("invalid_request", "invalid_id", "model_not_found")


@pytest.mark.parametrize("chat_id", ["a/b", "../x", "ä 漢字", "50%", "a?b#c", "a//b", "run.0.a.b", "x" * 256])
async def test_any_chat_id_works_escaped_or_as_older_clients_send_it(
    client: httpx.AsyncClient, log: Log, link: Link, chat_id: str
) -> None:
    chat = UiChat(client, log, link, chat_id)
    await chat.post()
    await chat.write(*TEXT)
    # Dots are resolved by URL parsers before anything is sent.
    names = {quote(chat_id, safe=""), quote(chat_id, safe="/") if ".." not in chat_id else ""} - {""}
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(_starts(client, f"/api/chat/{name}/stream"))
    await chat.write(*CLOSED)
    await chat.end()
    assert kinds((await chat.answered())[1])[-1] == "[DONE]"


async def _starts(client: httpx.AsyncClient, path: str) -> None:
    async with client.stream("GET", path) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                assert msgspec.json.decode(line[6:])["type"] == "start"
                return


async def test_the_same_request_again_joins_the_running_answer(chat: UiChat) -> None:
    ref = await chat.post()
    body = {"id": chat.chat_id, "trigger": "submit-message", "messages": [user()]}
    again = asyncio.create_task(read(chat.client, "POST", "/api/chat", json=body))
    other = await chat.client.post("/api/chat", json={**body, "messages": [user("Hi", "u2")]})
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")
    assert other.json()["error"]["active_message_id"] == ref.message_id
    await chat.write(*TEXT, *CLOSED)
    await chat.end()
    assert (await again)[1] == (await chat.answered())[1]


async def test_the_last_message_alone_joins_the_running_answer_to_it_too(chat: UiChat) -> None:
    await chat.whole(messages=None, message=user("One"))
    await chat.post(messages=None, message=user("Two", "u2"))
    body = {"id": chat.chat_id, "trigger": "submit-message", "message": user("Two", "u2")}
    again = asyncio.create_task(read(chat.client, "POST", "/api/chat", json=body))
    other = await chat.client.post("/api/chat", json={**body, "message": user("Three", "u3")})
    assert other.status_code == 409
    await chat.write(*TEXT, *CLOSED)
    await chat.end()
    response, events = await again
    assert (response.status_code, events) == (200, (await chat.answered())[1])
    await chat.whole(messages=None, message=user("Two", "u2"))
    assert (await asked(chat)).messages == [turn("One"), ANSWER, turn("Two")]


async def test_an_idempotency_key_names_the_start(chat: UiChat) -> None:
    body = {"id": "k", "messages": [user()]}
    first, again = (
        asyncio.create_task(read(chat.client, "POST", "/api/chat", json=body, headers={"idempotency-key": "once"}))
        for _ in range(2)
    )
    keyed = UiChat(chat.client, chat.log, chat.link, "k")
    await wait_until(lambda: chat.log.active(LOCAL.scope, "k"))
    await keyed.adopt()
    await keyed.write(*TEXT, *CLOSED)
    await keyed.end()
    assert (await first)[1] == (await again)[1] != []


@pytest.mark.parametrize("fields", [
    {"trigger": "regenerate-message", "messages": [user()]},
    {"trigger": "regenerate-message", "messageId": "m", "messages": [user()]},
    {"messageId": "u1", "messages": [user("Hi, edited")]},
])  # fmt: skip
async def test_regenerating_and_editing_win_over_what_is_in_flight(chat: UiChat, fields: dict[str, Any]) -> None:
    first = await chat.post()
    await chat.write(*TEXT)
    loser = chat.writer
    second = await chat.post(**fields)
    assert second != first
    meta = await chat.log.meta(loser.ref)
    assert meta is not None
    assert meta.stop == "replaced"


async def test_a_tool_result_while_something_runs_is_refused(chat: UiChat) -> None:
    await chat.post()
    part = {"type": "tool-x", "toolCallId": "c", "state": "output-available", "input": {}, "output": 1}
    body = {
        "id": chat.chat_id,
        "messageId": "a1",
        "messages": [user(), {"id": "a1", "role": "assistant", "parts": [part]}],
    }
    assert (await chat.client.post("/api/chat", json=body)).status_code == 409


async def test_the_last_message_alone_is_completed_from_the_turn_before(chat: UiChat) -> None:
    await chat.whole(messages=None, message=user("One"))
    await chat.whole(messages=None, message=user("Two", "u2"))
    assert (await asked(chat)).messages == [turn("One"), ANSWER, turn("Two")]
    await chat.whole(messages=None, message=user("Two", "u2"), trigger="regenerate-message")
    assert (await asked(chat)).messages == [turn("One"), ANSWER, turn("Two")]
    await chat.whole(messages=None, trigger="regenerate-message", messageId="m")
    assert (await asked(chat)).messages == [turn("One"), ANSWER, turn("Two")]


async def test_another_system_prompt_takes_the_place_of_the_one_before(chat: UiChat) -> None:
    """It may tell the time; and many models take one only, at the beginning."""

    def told(text: str) -> dict[str, str]:
        return {"role": "system", "content": text}

    await chat.whole(messages=None, message=user("One"), system="It is one.")
    await chat.whole(messages=None, message=user("Two", "u2"), system="It is two.")
    assert (await asked(chat)).messages == [told("It is two."), turn("One"), ANSWER, turn("Two")]
    await chat.whole(messages=None, message=user("Two", "u2"), trigger="regenerate-message")
    assert (await asked(chat)).messages == [told("It is two."), turn("One"), ANSWER, turn("Two")]
    await chat.whole(messages=None, trigger="regenerate-message", system="It is three.")
    assert (await asked(chat)).messages == [told("It is three."), turn("One"), ANSWER, turn("Two")]
    await chat.whole(messages=[user("Anew")])
    await chat.whole(messages=None, message=user("Two", "u2"), system="It is four.")
    assert (await asked(chat)).messages == [told("It is four."), turn("Anew"), ANSWER, turn("Two")]


async def test_a_chat_that_is_not_sent_does_not_grow_beyond_what_a_body_may_be(
    redis_server: RedisServer, tmp_path: Path, log: Log, link: Link
) -> None:
    settings = settings_for(redis_server.url, tmp_path, max_body_bytes=3000)
    async with live_gateway(settings) as live, live.client() as client:
        chat = UiChat(client, log, link, "that grows")
        for number in range(2):
            await chat.whole(messages=None, message=user("x" * 1000, f"u{number}"))
        body = {"id": chat.chat_id, "message": user("x" * 1000, "u3")}
        refused = await client.post("/api/chat", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")
        await chat.whole(messages=[user("A new one.")])
        await chat.whole(messages=None, message=user("Two", "u2"))
        assert (await asked(chat)).messages == [turn("A new one."), ANSWER, turn("Two")]
        await chat.close()


async def test_only_the_last_turn_can_be_edited_without_the_conversation(chat: UiChat) -> None:
    await chat.whole(messages=None, message=user("One"))
    await chat.whole(messages=None, message=user("Two", "u2"))
    await chat.whole(messages=None, message=user("Two, edited", "u2"), messageId="u2")
    assert (await asked(chat)).messages == [turn("One"), ANSWER, turn("Two, edited")]
    body = {"id": chat.chat_id, "message": user("One, edited"), "messageId": "u1"}
    assert (await chat.client.post("/api/chat", json=body)).status_code == 400


async def test_tool_results_go_on_without_the_conversation_too(chat: UiChat) -> None:
    await chat.post(messages=None, message=user("One"))
    await chat.write(
        ev.Start("m"), ev.StartStep(), ev.ToolInputAvailable("c1", "x", {}), ev.FinishStep(), ev.Finish("tool-calls")
    )
    await chat.end()
    part = {"type": "tool-x", "toolCallId": "c1", "state": "output-available", "input": {}, "output": 1}
    message = {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, part]}
    for _ in range(2):  # the second time the turn before is itself one that went on
        await chat.whole(messages=None, message=message, messageId="a1")
        roles = [entry["role"] for entry in (await asked(chat)).messages]
        assert roles == ["user", "assistant", "tool"]
        assert (await chat.answered())[1][0].chunk == {"type": "start", "messageId": "a1"}


@pytest.mark.parametrize("known", ["message alone", "all messages"])
async def test_a_turn_that_went_on_after_a_tool_is_asked_again_without_the_conversation(
    chat: UiChat, known: str
) -> None:
    await chat.post(messages=None, message=user("One"))
    await chat.write(ev.Start("m"), ev.StartStep(), ev.ToolInputAvailable("c1", "x", {}), ev.FinishStep())
    await chat.write(ev.Finish("tool-calls"))
    await chat.end()
    part = {"type": "tool-x", "toolCallId": "c1", "state": "output-available", "input": {}, "output": 1}
    answer = {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, part]}
    sent: Any = (
        {"messages": [user("One"), answer]} if known == "all messages" else {"messages": None, "message": answer}
    )
    await chat.whole(**sent, messageId="a1")
    await chat.whole(messages=None, trigger="regenerate-message", messageId="a1")
    assert (await asked(chat)).messages == [turn("One")]
    await chat.whole(messages=None, message=user("One"), trigger="regenerate-message")
    assert (await asked(chat)).messages == [turn("One")]
    await chat.whole(**sent, messageId="a1")
    await chat.whole(messages=None, message=user("One, edited"), messageId="u1")
    assert (await asked(chat)).messages == [turn("One, edited")]


async def test_a_model_has_the_thoughts_back_that_led_to_the_call_that_is_answered(chat: UiChat) -> None:
    """Thinking models refuse a tool loop without them."""
    await chat.post()
    await chat.write(ev.Start("m"), ev.StartStep(), ev.ReasoningStart("r0"), ev.ReasoningDelta("r0", "Look."))
    await chat.write(ev.ReasoningEnd("r0"), ev.ToolInputAvailable("c1", "x", {}), ev.FinishStep())
    await chat.write(ev.Finish("tool-calls"))
    await chat.end()
    call = {"type": "tool-x", "toolCallId": "c1", "state": "output-available", "input": {}, "output": 1}
    parts = [{"type": "step-start"}, {"type": "reasoning", "text": "Look.", "state": "done"}, call]
    message = {"id": "a1", "role": "assistant", "parts": parts}
    await chat.whole(messages=[user(), message], messageId="a1")
    assert (await asked(chat)).messages[1]["reasoning_content"] == "Look."
    await chat.whole(messages=None, message=message, messageId="a1")
    assert (await asked(chat)).messages[1]["reasoning_content"] == "Look."
    await chat.whole(messages=None, message=user("And?", "u2"))
    assert (await asked(chat)).messages[1]["reasoning_content"] == "Look."


async def test_a_message_of_who_has_a_part_of_the_running_answer_replaces_it(chat: UiChat) -> None:
    """`stop()` of `useChat` tells no server: its part of the answer in the next message does."""
    first = await chat.post()
    await chat.write(*TEXT)
    part = {"id": first.message_id, "role": "assistant", "parts": [{"type": "text", "text": "ab"}]}
    older = chat.writer
    await chat.close()
    second = await chat.post(messages=[user(), part, user("Something else.", "u2")])
    assert second.message_id != first.message_id
    assert (await asked(chat)).messages[-1] == turn("Something else.")
    meta = await older.log.meta(first)
    assert meta is not None
    assert meta.stop == "replaced"


async def test_an_older_answer_in_the_conversation_replaces_nothing(chat: UiChat) -> None:
    await chat.post()
    part = {"id": "msg_older", "role": "assistant", "parts": [{"type": "text", "text": "ab"}]}
    body = {"id": chat.chat_id, "messages": [user(), part, user("Something else.", "u2")]}
    refused = await chat.client.post("/api/chat", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "chat_busy")
