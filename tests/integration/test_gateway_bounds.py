"""A full gateway takes no more viewers, on any wire, and starts nothing for one that it cannot serve."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, started
from tests.support.sockets import open_socket
from tests.support.wait import wait_until

STREAMS = ("/chats/c/messages/m/stream", "/chats/c/stream", "/api/chat/c/stream", "/feed")
PROMPT = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "x"}]}
WAITS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/chats/d/messages", ASK),
    ("/api/chat", {"id": "d", "messages": [PROMPT]}),
    ("/api/chat", {"id": "d", "messages": [PROMPT], "trigger": "regenerate-message"}),
    ("/v1/chat/completions", ASK),
    ("/v1/chat/completions", {**ASK, "stream": True}),
    ("/v1/responses", {"input": "x"}),
    ("/v1/responses", {"input": "x", "stream": True}),
)


async def test_every_wire_keeps_the_bound(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_viewers=1) as gateway, gateway.client() as client:
        await started(client)
        async with client.stream("GET", STREAMS[0]):
            await wait_until(lambda: len(gateway.services.hub.viewers) == 1)
            for path in STREAMS:
                # An EventSource takes a refusal for good, so it is a stream that breaks at once.
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get(path)
            for path, body in WAITS:
                refused = await client.post(path, json=body, headers={"accept": "text/event-stream"})
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded"), (path, body)
            async with open_socket(gateway.url) as socket:
                assert await socket.closed() == (1013, "overloaded")
            in_flight = (await client.get("/active")).json()["messages"]
            assert [view["message_id"] for view in in_flight] == ["m"]
            # What is answered at once needs no room.
            background = await client.post("/v1/responses", json={"input": "x", "background": True})
            assert background.status_code == 200
            assert (await client.post("/chats/d/messages", json=ASK)).status_code == 202
