"""A live stream goes on after its request's call has returned: nothing is lost, and nothing is kept when it is over."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import httpx
import pytest

from gateway.live.delivery import Delivery
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import LiveGateway, running, sse_types
from tests.support.wait import wait_until
from tests.support.writer import LogWriter

STREAM = "/chats/c/messages/m/stream"
END = b"0\r\n\r\n"
DEADLINE_S = 10.0


class Client:
    """A connection on which requests are written as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def ask(self, path: str, more: bytes = b"") -> None:
        """Send a request, and `more` behind it."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() + more)

    async def until(self, what: bytes) -> bytes:
        """Return what comes up to `what`."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._reader.readuntil(what)

    async def rest(self) -> bytes:
        """Return all that comes until the connection is closed."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._reader.read()


@asynccontextmanager
async def connected(gateway: LiveGateway) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(gateway.url).port, limit=16_000_000)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@contextmanager
def asked_by_socket(gateway: LiveGateway) -> Iterator[socket.socket]:
    """Ask for the stream by a socket of little room that is read by nobody but the caller."""
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", httpx.URL(gateway.url).port))
        slow.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        yield slow


async def detached(gateway: LiveGateway, viewers: int = 1) -> None:
    """Wait until so many streams are open, and nobody's call is under way, nor a task for any of them."""
    await wait_until(lambda: len(gateway.services.hub.viewers) == viewers and not working(gateway))


def working(gateway: LiveGateway) -> bool:
    """Whether there is a task that delivers a stream: the server's or the hub's."""
    return bool(gateway.server.server_state.tasks) or any(t.get_name() == "delivery" for t in asyncio.all_tasks())


async def let_go(gateway: LiveGateway) -> None:
    """Wait until the gateway keeps nothing of any stream."""
    hub = gateway.services.hub
    await wait_until(lambda: not hub.viewers and not hub.tails and not working(gateway))


async def begun(gateway: LiveGateway, log: Log) -> LogWriter:
    async with gateway.client() as client:
        return await running(client, log)


def deltas(body: bytes) -> list[int]:
    """Return the numbers that `count_to` has written."""
    return [int(number) for number in re.findall(rb'"<(\d+)>', body)]


async def count_to(writer: LogWriter, last: int, size: int) -> None:
    for number in range(last):
        await writer.say(f"<{number}>" + "x" * size)


async def test_the_call_of_a_live_stream_returns_and_the_connection_serves_on(
    make_gateway: MakeGateway, log: Log
) -> None:
    async with make_gateway(direct_writes=True) as gateway:
        writer = await begun(gateway, log)
        async with connected(gateway) as client:
            client.ask(STREAM)
            await client.until(b"attempt")
            await detached(gateway)
            await writer.say("word")
            await client.until(b"word")
            assert not working(gateway)
            await writer.finish()
            assert b'"type":"end"' in await client.until(END)
            await let_go(gateway)
            client.ask("/healthz")
            assert b"200 OK" in await client.until(b"\r\n\r\n")


async def test_without_direct_writes_the_call_lasts_as_long_as_the_stream(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway(direct_writes=False) as gateway:
        writer = await begun(gateway, log)
        async with connected(gateway) as client:
            client.ask(STREAM)
            await client.until(b"attempt")
            await writer.say("word")
            await client.until(b"word")
            assert len(gateway.server.server_state.tasks) == 1
            await writer.finish()
            await client.until(END)
        await let_go(gateway)


async def test_requests_sent_ahead_are_answered_after_the_end(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway(direct_writes=True) as gateway:
        writer = await begun(gateway, log)
        async with connected(gateway) as client:
            client.ask(STREAM, more=b"GET /healthz HT")  # the stream is left in the middle of it
            await client.until(b"attempt")
            await detached(gateway)
            client.writer.write(b"TP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            client.ask(STREAM)
            await writer.say("word")
            await writer.finish()
            first = await client.until(END)
            assert first.count(b"HTTP/1.1") == 0
            assert b"word" in first
            assert b"200 OK" in await client.until(b"\r\n\r\n")
            again = await client.until(END)
            assert again.count(b"HTTP/1.1") == 1
            assert b"word" in again
        await let_go(gateway)


async def test_a_client_that_leaves_is_forgotten(make_gateway: MakeGateway, log: Log) -> None:
    """With a request waiting behind the stream the connection is not read: only a ping shows that the client left."""
    async with make_gateway(direct_writes=True, heartbeat_s=0.2) as gateway:
        await begun(gateway, log)
        for more in (b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
            async with connected(gateway) as client:
                client.ask(STREAM, more)
                await client.until(b"attempt")
                await detached(gateway)
            await let_go(gateway)


async def test_a_slow_client_gets_everything_and_is_left_alone_again(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway(direct_writes=True, viewer_buffer_bytes=65_536) as gateway:
        writer = await begun(gateway, log)
        with asked_by_socket(gateway) as slow:
            await detached(gateway)
            await count_to(writer, 40, 50_000)
            await wait_until(lambda: working(gateway), what="it did not fall behind")
            slow.setblocking(False)
            body, loop = b"", asyncio.get_running_loop()
            async with asyncio.timeout(DEADLINE_S):
                while b"<39>" not in body:
                    body += await loop.sock_recv(slow, 1_000_000)
            await detached(gateway)
            await writer.say("<40>")
            await writer.finish()
            async with asyncio.timeout(DEADLINE_S):
                while END not in body:
                    body += await loop.sock_recv(slow, 1_000_000)
        assert deltas(body) == list(range(41))
        await let_go(gateway)


async def test_a_client_that_takes_nothing_is_dropped(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway(direct_writes=True, viewer_buffer_bytes=65_536, send_timeout_s=0.5) as gateway:
        writer = await begun(gateway, log)
        with asked_by_socket(gateway):
            await detached(gateway)
            await count_to(writer, 40, 50_000)
            await let_go(gateway)
            assert not gateway.server.server_state.connections


async def test_a_drain_breaks_streams_that_nobody_works_on(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway(direct_writes=True) as gateway:
        await begun(gateway, log)
        async with connected(gateway) as one, connected(gateway) as other:
            for client in (one, other):
                client.ask(STREAM)
                await client.until(b"attempt")
            await detached(gateway, viewers=2)
            gateway.services.hub.drain(0.2)
            for client in (one, other):
                assert END not in await client.rest()
            await let_go(gateway)
            assert not gateway.server.server_state.connections


async def test_a_server_that_ends_drops_streams_that_nobody_works_on(
    make_gateway: MakeGateway, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_gateway(direct_writes=True) as gateway:
        await begun(gateway, log)
        hub = gateway.services.hub
        gateway.server.config.timeout_graceful_shutdown = 1
        async with connected(gateway) as client:
            client.ask(STREAM)
            await client.until(b"attempt")
            await detached(gateway)
            gateway.server.should_exit = True
            with suppress(ConnectionResetError):
                assert END not in await client.rest()
            await wait_until(lambda: not hub.viewers and not hub.tails and not working(gateway))
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_task_that_fails_is_said_and_costs_one_connection(
    make_gateway: MakeGateway, log: Log, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(delivery: Delivery) -> bool:
        raise RuntimeError("planted")

    async with make_gateway(direct_writes=True) as gateway:
        writer = await begun(gateway, log)
        async with connected(gateway) as client:
            client.ask(STREAM)
            await client.until(b"attempt")
            await detached(gateway)
            monkeypatch.setattr(Delivery, "_work", fail)
            await writer.finish()
            with suppress(ConnectionResetError):
                assert END not in await client.rest()
            await let_go(gateway)
        monkeypatch.undo()
        async with gateway.client() as again:
            assert sse_types((await again.get(STREAM)).text)[-1] == "end"
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["planted"]
