"""What a WebSocket's connection may cost: handshakes, pings, pieces and ends of clients that mean no good."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from gateway.socket_connection import GuardedSocket
from gateway.socket_session import SocketSession
from tests.integration.conftest import MakeGateway
from tests.support.gateway import LiveGateway, raw_exchange
from tests.support.sockets import open_socket
from tests.support.wait import wait_until


@pytest.mark.parametrize(
    ("more", "query"),
    [
        (b"x: " + b"y" * 9000 + b"\r\n\r\n", b""),
        (b"x: y\r\n" * 200 + b"\r\n", b""),
        (b"content-length: 2\r\n\r\n{}", b""),
        (b"\r\n", b"?" + b"y" * 9000),
    ],
    ids=["a long header", "many headers", "a body", "a long query"],
)
async def test_a_handshake_that_cannot_be_read_is_refused_and_hinders_nothing(
    make_gateway: MakeGateway, more: bytes, query: bytes
) -> None:
    """Such a connection had no deadline at all, and the server's end failed over it."""
    async with make_gateway(api_keys="key=acme/ann") as gateway:
        lines = (b"GET /ws" + query + b" HTTP/1.1", b"host: localhost", b"connection: upgrade", b"upgrade: websocket")
        key = (b"sec-websocket-version: 13", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", more)
        answer = await raw_exchange(gateway.url, b"\r\n".join((*lines, *key)))
        assert answer.startswith(b"HTTP/1.1 400 ")
        await wait_until(lambda: not gateway.server.server_state.connections)


async def test_a_connection_that_still_owes_an_answer_becomes_no_socket(gateway: LiveGateway) -> None:
    """The answers to what was asked before would be written between its frames, however few of them are taken."""
    lines = (b"GET /ws HTTP/1.1", b"host: localhost", b"connection: upgrade", b"upgrade: websocket")
    key = (b"sec-websocket-version: 13", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", b"", b"")
    ahead = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with suppress(ConnectionError):
        assert b"101 Switching" not in await raw_exchange(gateway.url, ahead + b"\r\n".join((*lines, *key)))
    state = gateway.server.server_state
    await wait_until(lambda: not state.connections and not state.tasks)


async def test_a_connection_that_served_a_request_before_is_as_good_a_socket(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies send the one over connections that they have kept from the other."""
    monkeypatch.setattr("gateway.server.KEEP_ALIVE_S", 1)
    async with make_gateway(heartbeat_s=0.1) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(gateway.url).port)
        try:
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            lines = (b"GET /ws HTTP/1.1", b"host: localhost", b"connection: upgrade", b"upgrade: websocket")
            key = (b"sec-websocket-version: 13", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", b"", b"")
            writer.write(b"\r\n".join((*lines, *key)))
            async with asyncio.timeout(10):
                for _ in range(3):  # one a second at most: longer than a connection is kept that is idle
                    await reader.readuntil(b'"ping"}')
        finally:
            writer.close()


async def test_a_socket_that_the_server_closed_with_words_on_their_way_is_nobodys_error(
    gateway: LiveGateway, caplog: pytest.LogCaptureFixture
) -> None:
    hub = gateway.services.hub
    async with open_socket(gateway.url) as socket:
        await socket.hear_kind("ready")
        await wait_until(lambda: bool(hub.viewers))
        (session,) = hub.viewers
        assert isinstance(session, SocketSession)
        session.outbox.put_if_empty(b"{}")
        session._send.__self__.keepalive_timeout()  # type: ignore[attr-defined]  # as uvicorn's own timer does
        assert (await socket.closed())[0] == 1011
    await wait_until(lambda: not hub.viewers)
    assert not [record for record in caplog.records if record.exc_info]


PING = b"\x89\xfd" + bytes(4)
"""How a client's ping of 125 bytes begins."""


def ping(number: int) -> bytes:
    return b"%125d" % number


@contextmanager
def raw_socket(gateway: LiveGateway, token: bytes) -> Iterator[socket.socket]:
    """Ask for a WebSocket by a connection of little room that is read by nobody but the caller."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", httpx.URL(gateway.url).port))
        raw.setblocking(False)
        lines = (b"GET /ws HTTP/1.1", b"host: localhost", b"authorization: Bearer " + token, b"connection: upgrade")
        key = (b"upgrade: websocket", b"sec-websocket-version: 13", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")
        raw.sendall(b"\r\n".join((*lines, *key, b"", b"")))
        yield raw


async def connection_of(gateway: LiveGateway) -> GuardedSocket:
    """Return the one connection, once it is a WebSocket."""
    connections = gateway.server.server_state.connections
    await wait_until(lambda: [type(each) for each in connections] == [GuardedSocket])
    (connection,) = connections
    assert isinstance(connection, GuardedSocket)
    return connection


@pytest.mark.parametrize("token", [b"key", b"nobody"])
async def test_pings_of_a_client_that_takes_nothing_do_not_fill_our_memory(
    make_gateway: MakeGateway, token: bytes
) -> None:
    loop = asyncio.get_running_loop()
    async with make_gateway(api_keys="key=acme/ann", send_timeout_s=0.5, heartbeat_s=0.5) as gateway:
        with raw_socket(gateway, token) as raw:
            connection = await connection_of(gateway)
            most = 0
            with suppress(ConnectionError):
                async with asyncio.timeout(20):  # whoever is known is slow then, and nobody else stays at all
                    while connection in gateway.server.server_state.connections:
                        await loop.sock_sendall(raw, (PING + ping(0)) * 1000)
                        most = max(most, connection.transport.get_write_buffer_size())
        assert 0 < most < 1_000_000
        await wait_until(lambda: not gateway.server.server_state.connections)


async def test_the_latest_ping_is_answered_however_late_its_client_takes_it(make_gateway: MakeGateway) -> None:
    loop = asyncio.get_running_loop()
    async with make_gateway(api_keys="key=acme/ann") as gateway:
        with raw_socket(gateway, b"key") as raw:
            connection = await connection_of(gateway)
            last = 0
            while connection.writable.is_set() or last % 1000:
                last += 1
                await loop.sock_sendall(raw, PING + ping(last))
            async with asyncio.timeout(10):
                told = b""
                while ping(last) not in told:
                    told = told[-200:] + await loop.sock_recv(raw, 65_536)


async def test_a_client_that_closes_and_takes_nothing_does_not_hinder_the_servers_end(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.socket_connection.CLOSED_WITHIN_S", 2.0)
    loop = asyncio.get_running_loop()
    async with make_gateway(api_keys="key=acme/ann") as gateway:
        with raw_socket(gateway, b"key") as raw:
            connection = await connection_of(gateway)
            while connection.writable.is_set():
                await loop.sock_sendall(raw, PING + ping(0))
            await loop.sock_sendall(raw, b"\x88\x80" + bytes(4))
            await wait_until(connection.transport.is_closing)
            assert connection in gateway.server.server_state.connections
            lifespan = gateway.server.lifespan
            gateway.server.should_exit = True
            await wait_until(lambda: lifespan.shutdown_event.is_set())


async def test_a_message_in_pieces_without_content_takes_no_memory(make_gateway: MakeGateway) -> None:
    begun, empty, end = (bytes((first, 0x80 + length)) + bytes(4) for first, length in ((1, 15), (0, 0), (0x80, 0)))
    loop = asyncio.get_running_loop()
    async with make_gateway(api_keys="key=acme/ann") as gateway:
        with raw_socket(gateway, b"key") as raw:
            connection = await connection_of(gateway)
            await loop.sock_sendall(raw, begun + b'{"type":"ping"}' + empty * 50_000)
            await wait_until(lambda: connection.frames)
            assert len(connection.frames) == 1
            await loop.sock_sendall(raw, end)
            async with asyncio.timeout(10):
                told = b""
                while b'"pong"' not in told:
                    told += await loop.sock_recv(raw, 65_536)
