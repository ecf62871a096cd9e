"""A stream ends with the credential that opened it, and a new credential goes on where it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import jwt
import pytest

from gateway.access.principal import Principal
from shared.events import TextStart, encode_event
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import LiveGateway, started
from tests.support.node import Failed, NodeProgram
from tests.support.wait import wait_until
from tests.support.writer import LogWriter

TEXT_START = encode_event(TextStart("t0"))
SECRET = "a-secret-for-tests-of-32-bytes-or-more"
BRIEF_S = 3.0
LATEST_S = 5.0
"""A stream is over so long after its credential, at the latest."""


def token(lasts_s: float) -> str:
    return jwt.encode({"sub": "ann", "tenant": "acme", "exp": time.time() + lasts_s}, SECRET, "HS256")


@pytest.fixture
async def live(make_gateway: MakeGateway) -> AsyncIterator[LiveGateway]:
    async with make_gateway(jwt_secret=SECRET) as gateway:
        yield gateway


async def until_broken(client: httpx.AsyncClient, path: str) -> str:
    """Return what a stream brings before it breaks; it must break, not end."""
    got = bytearray()

    async def read() -> None:
        async with asyncio.timeout(BRIEF_S + LATEST_S), client.stream("GET", path) as response:
            assert response.status_code == 200
            async for part in response.aiter_raw():
                got.extend(part)

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    return got.decode()


@pytest.mark.parametrize("path", ["/chats/c/messages/m/stream", "/chats/c/stream", "/api/chat/c/stream", "/feed"])
async def test_a_stream_ends_with_its_credential(live: LiveGateway, path: str) -> None:
    async with live.client(token(60)) as client:
        await started(client)
    expires = time.time() + BRIEF_S
    async with live.client(token(BRIEF_S)) as client:
        got = await until_broken(client, path)
    assert time.time() < expires + LATEST_S
    assert got.endswith(": credential_expired\n"), got


async def test_a_new_credential_goes_on_behind_the_last_entry(live: LiveGateway, log: Log) -> None:
    async with live.client(token(60)) as lasting:
        await started(lasting)
        writer = LogWriter(log, Principal("acme", "ann").ref("c", "m"))
        await writer.claim()
        await writer.append(TEXT_START)
        async with live.client(token(BRIEF_S)) as brief:
            first = await until_broken(brief, "/chats/c/messages/m/stream")
        await writer.say("more")
        await writer.finish()
        last = [line for line in first.split("\n") if line.startswith("id: ")][-1].removeprefix("id: ")
        rest = (await lasting.get("/chats/c/messages/m/stream", params={"after": last})).text
        whole = (await lasting.get("/chats/c/messages/m/stream")).text
    events = [block for block in (first + rest).split("\n\n") if "id: " in block]
    ids = [line for block in events for line in block.split("\n") if line.startswith("id: ")]
    assert ids == [line for line in whole.split("\n") if line.startswith("id: ")]


async def test_a_client_that_takes_nothing_is_dropped_all_the_same(live: LiveGateway, log: Log) -> None:
    async with live.client(token(60)) as client:
        await started(client)
    writer = LogWriter(log, Principal("acme", "ann").ref("c", "m"))
    await writer.claim()
    await writer.append(TEXT_START)
    for _ in range(24):
        await writer.say("x" * 200_000)
    reader, connection = await asyncio.open_connection("127.0.0.1", httpx.URL(live.url).port, limit=1024)
    try:
        head = f"GET /chats/c/messages/m/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token(BRIEF_S)}\r\n\r\n"
        connection.write(head.encode())
        await reader.readuntil(b"\r\n")
        viewers = live.services.hub.viewers
        await wait_until(lambda: not viewers, deadline_s=BRIEF_S + LATEST_S, what="the viewer is gone")
    finally:
        connection.close()


async def test_our_client_takes_a_new_ticket_when_its_sockets_credential_ends(live: LiveGateway, log: Log) -> None:
    async with live.client(token(60)) as client, NodeProgram("follow.mjs") as node:
        await started(client)
        writer = LogWriter(log, Principal("acme", "ann").ref("c", "m"))
        await writer.claim()
        await writer.append(TEXT_START)
        path = "/chats/c/messages/m/stream"
        with pytest.raises(Failed, match="Refused not_authenticated"):
            await node.ask("withTickets", origin=live.url, url=path, keys=[token(-5)])
        keys = [token(BRIEF_S), token(60)]  # only now that the client runs: the first is good for seconds
        reading = asyncio.create_task(node.ask("withTickets", origin=live.url, url=path, keys=keys))
        await wait_until(lambda: live.services.hub.viewers, what="nobody watches")
        await wait_until(lambda: reading.done() or not live.services.hub.viewers, what="the socket stayed open")
        await writer.say("more")
        await writer.finish()
        got = await reading
        ids = [line[4:] for line in (await client.get(path)).text.split("\n") if line.startswith("id: ")]
        assert got["ids"] == ids
        assert got["states"].count("reconnecting") >= 1
