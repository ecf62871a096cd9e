"""Ids are any text: whatever it holds, it names one chat and one message and nothing else."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest

from gateway.access.principal import LOCAL
from shared.ids import MAX_ID_BYTES
from shared.log.log import Log
from tests.support.gateway import ASK, LiveGateway, raw_exchange, sse_data, started

IDS = [
    "a/b",
    "/",
    "//",
    "a b",
    "🙂",
    "é",
    "e\u0301",
    "stream",
    "messages",
    "stop",
    "...",
    ".a",
    "%2F",
    "%",
    "?x=1",
    "#f",
    "a+b",
    "a;b",
    "{c}:*",
    "x\x00y",
    "line\nbreak",
    "\u2028",
    "日" * 85,
    "x" * MAX_ID_BYTES,
]


@pytest.mark.parametrize("chat", IDS)
async def test_any_text_is_an_id(client: httpx.AsyncClient, log: Log, chat: str) -> None:
    at = f"/chats/{quote(chat, safe='')}"
    for message in ("m", chat):
        first = await client.post(f"{at}/messages", json={**ASK, "message_id": message, "policy": "parallel"})
        assert first.status_code == 202
        told = first.json()
        assert (told["chat_id"], told["message_id"]) == (chat, message)
        base = told["stream_url"].removesuffix("/stream")
        view = (await client.get(base)).json()
        assert (view["message"]["chat_id"], view["message"]["message_id"]) == (chat, message)
        assert (await client.post(f"{base}/stop")).json()["state"] == "aborted"
        replay = await client.get(told["stream_url"])
        assert sse_data(replay.text)[0]["chat_id"] == chat
        assert sse_data(replay.text)[-1]["type"] == "end"
    view = (await client.get(at)).json()
    assert (view["chat_id"], view["messages"]) == (chat, [])
    assert await log.meta(LOCAL.ref("c", "m")) is None


async def test_ids_that_look_alike_are_not_the_same(client: httpx.AsyncClient) -> None:
    for chat in IDS:
        await started(client, chat)
    listed = (await client.get("/active")).json()["messages"]
    assert sorted(m["chat_id"] for m in listed) == sorted(IDS)


@pytest.mark.parametrize("segment", ["%FF", "%ED%A0%80", "x" * 257, quote("日" * 86)])
async def test_what_is_no_id_is_a_client_error(client: httpx.AsyncClient, segment: str) -> None:
    for method, path in (
        ("POST", f"/chats/{segment}/messages"),
        ("GET", f"/chats/{segment}"),
        ("GET", f"/chats/{segment}/stream"),
        ("GET", f"/chats/c/messages/{segment}"),
        ("GET", f"/chats/c/messages/{segment}/stream"),
        ("POST", f"/chats/c/messages/{segment}/stop"),
        ("DELETE", f"/chats/c/messages/{segment}"),
    ):
        response = await client.request(method, path, json=ASK)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_id")


@pytest.mark.parametrize("segment", [".", "..", "%2E", "%2e%2E", ".%2e"])
async def test_what_no_url_can_hold_is_no_id(gateway: LiveGateway, segment: str) -> None:
    """Sent as it is: clients would take such a segment out of the path."""
    for target in (f"/chats/{segment}", f"/chats/c/messages/{segment}"):
        request = f"GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        answer = await raw_exchange(gateway.url, request)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"invalid_id"' in answer


@pytest.mark.parametrize("message", ["", ".", "..", "x" * 257])
async def test_a_message_id_of_the_body_is_checked_too(client: httpx.AsyncClient, message: str) -> None:
    response = await client.post("/chats/c/messages", json={**ASK, "message_id": message})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_id")
