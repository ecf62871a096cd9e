"""What serves the demo page: its configuration, its buttons, and how a chat is read back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, running, started
from tests.support.sockets import open_socket

PRESS = {"x-tailrace-local": "1"}


@pytest.mark.parametrize("settings", [{}, {"local": True, "api_keys": "k=acme/ann"}])
async def test_nothing_can_be_broken_but_on_ones_own_machine(
    make_gateway: MakeGateway, settings: dict[str, object]
) -> None:
    async with make_gateway(**settings) as gateway, gateway.client("k") as client:
        for what in ("cut", "kill-gateway", "kill-worker"):
            assert (await client.post(f"/__local/{what}", headers=PRESS)).status_code == 404
        config = (await client.get("/static/config.json")).json()
        assert config == {"open": not settings, "local": False, "peers": []}


async def test_a_button_cuts_every_connection(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway(local=True, local_peers="http://a, http://b") as gateway, gateway.client() as client:
        config = (await client.get("/static/config.json")).json()
        assert config == {"open": True, "local": True, "peers": ["http://a", "http://b"]}
        await running(client, log)
        async with open_socket(gateway.url) as socket, client.stream("GET", "/chats/c/messages/m/stream") as stream:
            await socket.hear_kind("ready")
            assert (await client.post("/__local/cut")).status_code == 404  # as another site's page would press it
            assert (await client.post("/__local/nothing", headers=PRESS)).status_code == 404
            assert (await client.post("/__local/cut", headers=PRESS)).json() == {"broken": "cut"}
            with pytest.raises(httpx.TransportError):
                async for _ in stream.aiter_raw():
                    pass
            assert (await socket.closed())[0] in (None, 1006)


async def test_a_button_kills_the_worker_that_the_launcher_wrote_down(
    make_gateway: MakeGateway, tmp_path: Path
) -> None:
    victim = await asyncio.create_subprocess_exec("sleep", "60")
    pids = tmp_path / "children.json"
    try:
        async with make_gateway(local=True, local_pidfile=str(pids)) as gateway, gateway.client() as client:
            for text in (None, "not json", json.dumps({"redis": os.getpid()})):
                if text is not None:
                    pids.write_text(text)
                assert (await client.post("/__local/kill-worker", headers=PRESS)).status_code == 404
            pids.write_text(json.dumps({"worker": victim.pid}))
            assert (await client.post("/__local/kill-worker", headers=PRESS)).status_code == 200
            async with asyncio.timeout(5):
                assert await victim.wait() == -signal.SIGKILL
    finally:
        if victim.returncode is None:
            victim.kill()


async def test_a_chat_is_read_back_from_its_latest_message(make_gateway: MakeGateway) -> None:
    async with make_gateway() as one, make_gateway() as two, one.client() as first, two.client() as second:
        assert (await second.get("/chats/c")).json() == {"chat_id": "c", "messages": [], "last_message_id": None}
        for message in ("m1", "m2"):
            await started(first, message=message, metadata={"title": "T"}, params={"temperature": 0.5})
            assert (await second.get("/chats/c")).json()["last_message_id"] == message
            await first.post(f"/chats/c/messages/{message}/stop")
        view = (await second.get("/chats/c")).json()
        assert (view["messages"], view["last_message_id"]) == ([], "m2")
        asked = (await second.get("/chats/c/messages/m2/request")).json()
        assert asked == {
            **{"chat_id": "c", "message_id": "m2", "model": "scripted", "messages": ASK["messages"]},
            **{"params": {"temperature": 0.5}, "metadata": {"title": "T"}},
        }
        assert (await second.get("/chats/c/messages/none/request")).status_code == 404
        await first.delete("/chats/c/messages/m2")
        assert (await second.get("/chats/c/messages/m2/request")).status_code == 410
