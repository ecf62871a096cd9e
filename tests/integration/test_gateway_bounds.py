"""A full gateway takes no more viewers, on any wire, and starts nothing for one that it cannot serve."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import httpx
import pytest

from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, running, started, unread
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
            one = f"/v1/responses/{background.json()['id']}"
            assert (await client.get(one)).status_code == 200
            assert (await client.get(f"{one}?stream=true")).status_code == 503
            assert (await client.post("/chats/d/messages", json=ASK)).status_code == 202


@pytest.mark.parametrize("over", [True, False])
async def test_who_takes_nothing_is_not_kept_behind_the_end_or_the_break(
    make_gateway: MakeGateway, log: Log, over: bool
) -> None:
    """What is left to send is more than the system's buffers take, and less than makes the server wait before it."""
    async with make_gateway(send_timeout_s=0.5, rotate_s=1.5, viewer_buffer_bytes=8_000_000) as gateway:
        async with gateway.client() as client:
            writer = await running(client, log)
            for _ in range(60):
                await writer.say("x" * 50_000)
            for listening in (sock for server in gateway.server.servers for sock in server.sockets):
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # or the system may take it all
            if over:
                await writer.finish()
        with unread(gateway.url, "/chats/c/messages/m/stream"):
            await wait_until(lambda: gateway.services.hub.tails == 1)
            await wait_until(lambda: gateway.services.hub.tails == 0)
        async with gateway.client() as client:
            told = (await client.get("/metrics")).text
        assert re.findall(r"^tailrace_gateway_slow_viewers_total (\S+)$", told, re.MULTILINE) == ["1.0"]


@pytest.mark.parametrize("direct", [True, False])
async def test_who_takes_nothing_in_mid_stream_is_cut_off_and_counted(
    make_gateway: MakeGateway, log: Log, direct: bool
) -> None:
    settings: dict[str, Any] = {"send_timeout_s": 0.5, "viewer_buffer_bytes": 65_536, "direct_writes": direct}
    async with make_gateway(**settings) as gateway, gateway.client() as client:
        writer = await running(client, log)
        for _ in range(60):
            await writer.say("x" * 50_000)
        with unread(gateway.url, "/chats/c/messages/m/stream"):
            await wait_until(lambda: gateway.services.hub.slow == 1)
            await wait_until(lambda: gateway.services.hub.tails == 0)
        assert gateway.services.hub.slow == 1


async def test_viewers_that_leave_before_the_subscription_stands_leave_nothing_behind(
    make_gateway: MakeGateway, log: Log
) -> None:
    async with make_gateway() as gateway, gateway.client() as client:
        ref = (await running(client, log)).ref
        hub = gateway.services.hub
        before = len(hub._tasks)

        async def look() -> None:
            async with hub.tail(ref):
                pass

        for _ in range(20):
            looking = asyncio.create_task(look())
            await asyncio.sleep(0)  # it has borrowed the tail, and Redis cannot have answered yet
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        await wait_until(lambda: len(hub._tasks) <= before + 1)  # a ping of the link may be under way
