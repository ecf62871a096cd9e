"""The fault proxy does to real sockets what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.fault_proxy import Fault, FaultProxy, eventually

BODY = b"data: one\n\ndata: two\n\ndata: three\n\n"


class Server:
    """Answers each request with its name and `BODY`, keeps the connection open, and notes what came in."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.heard: list[bytes] = []
        self.left = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                self.heard.append(data)
                writer.write(self.name + BODY)
                await writer.drain()
        except OSError:
            pass
        finally:
            self.left += 1
            writer.close()


@asynccontextmanager
async def proxied(*faults: Fault) -> AsyncIterator[tuple[FaultProxy, list[Server]]]:
    servers = [Server(b"A"), Server(b"B")]
    listening = [await asyncio.start_server(server, "127.0.0.1", 0) for server in servers]
    try:
        addresses = [("127.0.0.1", int(server.sockets[0].getsockname()[1])) for server in listening]
        async with FaultProxy(addresses, *faults) as proxy:
            yield proxy, servers
        await eventually(lambda: sum(server.left for server in servers) == len(proxy.connections))
    finally:
        for server in listening:
            server.close()


class Client:
    """Sends one request and reads."""

    def __init__(self, proxy: FaultProxy, request: bytes = b"GET /x HTTP/1.1\r\n\r\n") -> None:
        self._proxy = proxy
        self._request = request

    async def __aenter__(self) -> asyncio.StreamReader:
        reader, self.writer = await asyncio.open_connection("127.0.0.1", self._proxy.port)
        self.writer.write(self._request)
        return reader

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()


async def test_connections_go_to_the_servers_in_turn_undisturbed() -> None:
    async with proxied() as (proxy, _):
        for name in (b"A", b"B", b"A"):
            async with Client(proxy) as reader:
                assert await reader.readexactly(1 + len(BODY)) == name + BODY
        assert proxy.requests == ["GET /x HTTP/1.1"] * 3
        assert proxy.cuts == 0


@pytest.mark.parametrize(("fault", "passed"), [
    (Fault(cut_after=5), b"Adata"),
    (Fault(cut_after=2, of=b"data: "), b"Adata: one\n\ndata: "),
    (Fault(cut_after=0), b""),
])  # fmt: skip
async def test_a_reset_comes_after_exactly_so_much(fault: Fault, passed: bytes) -> None:
    async with proxied(fault) as (proxy, _):
        async with Client(proxy) as reader:
            if passed:
                assert await reader.readexactly(len(passed)) == passed
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert proxy.cuts == 1


async def test_a_close_is_a_clean_end() -> None:
    async with proxied(Fault(cut_after=5, how="close")) as (proxy, _), Client(proxy) as reader:
        assert await reader.read() == b"Adata"


async def test_a_half_closed_connection_still_takes_requests() -> None:
    async with proxied(Fault(cut_after=5, how="half_close")) as (proxy, servers):
        client = Client(proxy)
        async with client as reader:
            assert await reader.read() == b"Adata"
            client.writer.write(b"more")
            await eventually(lambda: servers[0].heard[-1:] == [b"more"])


async def test_silence_keeps_the_connection_open() -> None:
    async with proxied(Fault(cut_after=5, how="silence")) as (proxy, _), Client(proxy) as reader:
        assert await reader.readexactly(5) == b"Adata"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(1)


async def test_a_fault_waits_for_the_connection_it_matches() -> None:
    async with proxied(Fault(match=b"/stream", cut_after=1)) as (proxy, _):
        async with Client(proxy) as reader:
            assert await reader.readexactly(1 + len(BODY)) == b"A" + BODY
        async with Client(proxy, b"GET /stream HTTP/1.1\r\n\r\n") as reader:
            assert await reader.readexactly(1) == b"B"
            with pytest.raises(ConnectionResetError):
                await reader.read()


async def test_a_delayed_and_throttled_answer_is_whole() -> None:
    async with proxied(Fault(delay_s=0.01, bytes_per_s=2000)) as (proxy, _), Client(proxy) as reader:
        assert await reader.readexactly(1 + len(BODY)) == b"A" + BODY


async def test_everything_open_can_be_cut_and_newcomers_turned_away() -> None:
    async with proxied() as (proxy, _):
        async with Client(proxy) as reader:
            await reader.readexactly(1 + len(BODY))
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                await reader.read()
        proxy.down = True
        async with Client(proxy) as reader:
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert len(proxy.connections) == 1
