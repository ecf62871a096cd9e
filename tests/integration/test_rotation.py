"""Which streams a healthy gateway breaks: those whose clients come back by themselves, to whom a break is nothing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from gateway.access.principal import LOCAL
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, LiveGateway, breaks, started
from tests.support.openai_kit import MESSAGES
from tests.support.ui_chat import user
from tests.support.wait import wait_until
from tests.support.writer import LogWriter

CANNOT_COME_BACK: dict[str, tuple[str, dict[str, Any]]] = {
    "ui": ("/api/chat", {"id": "c", "messages": [user()]}),
    "chat_completions": ("/v1/chat/completions", {"model": "scripted", "messages": MESSAGES, "stream": True}),
    "responses": ("/v1/responses", {"model": "scripted", "input": "?", "stream": True}),
}


async def rotated(gateway: LiveGateway, client: httpx.AsyncClient) -> None:
    """Return once a native stream, opened now, has been broken off."""
    await client.post("/chats/native/messages", json={**ASK, "message_id": "m"})
    with pytest.raises(httpx.RemoteProtocolError):
        async with client.stream("GET", "/chats/native/messages/m/stream") as response:
            await response.aread()


@pytest.mark.parametrize("wire", CANNOT_COME_BACK)
async def test_a_stream_whose_client_cannot_come_back_does_not_rotate(
    make_gateway: MakeGateway, log: Log, wire: str
) -> None:
    path, body = CANNOT_COME_BACK[wire]
    async with make_gateway(rotate_s=0.1) as gateway, gateway.client() as client:
        reading = asyncio.create_task(client.post(path, json=body))
        await wait_until(lambda: gateway.services.hub.viewers)
        await rotated(gateway, client)
        await rotated(gateway, client)
        assert not reading.done()
        (ref,) = [m.ref for m in await gateway.services.index.in_flight(LOCAL) if m.ref.chat_id != "native"]
        writer = LogWriter(log, ref)
        await writer.claim()
        await writer.finish()
        response = await reading
        assert response.status_code == 200
        assert "[DONE]" in response.text or "response.completed" in response.text, response.text


async def test_what_was_opened_together_neither_breaks_nor_comes_back_together(make_gateway: MakeGateway) -> None:
    async with make_gateway(rotate_s=1000, retry_ms=1000) as gateway, gateway.client() as client:
        await started(client)
        async with AsyncExitStack() as stack:
            opening = (stack.enter_async_context(client.stream("GET", "/chats/c/messages/m/stream")) for _ in range(40))
            heads = [await anext(response.aiter_lines()) for response in await asyncio.gather(*opening)]
            delays = sorted(int(line.removeprefix("retry: ")) for line in heads)
            assert 1000 <= delays[0] <= delays[4] < 1500 < delays[-5] <= delays[-1] <= 2000
            told = breaks(gateway)
            assert 700 < told[0] <= told[4] < 1000 < told[-5] <= told[-1] <= 1250


@pytest.mark.parametrize("wire", CANNOT_COME_BACK)
async def test_a_drain_breaks_it(make_gateway: MakeGateway, wire: str) -> None:
    path, body = CANNOT_COME_BACK[wire]
    async with make_gateway() as gateway, gateway.client() as client:
        reading = asyncio.create_task(client.post(path, json=body))
        await wait_until(lambda: gateway.services.hub.viewers)
        gateway.services.hub.drain(0.1)
        with pytest.raises(httpx.RemoteProtocolError):
            await reading
