"""The pipes of the chaos harness: what they do to bytes is only what they were told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.chaos.pipe import Balancer, Pipe


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[str, int]]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[:2]
    server.close()


@pytest.fixture
async def pipe(echo: tuple[str, int]) -> AsyncIterator[Pipe]:
    pipe = await Pipe(lambda: echo).open()
    yield pipe
    await pipe.close()


async def test_bytes_that_come_before_the_other_side_stands_are_not_lost(pipe: Pipe) -> None:
    for _ in range(50):
        reader, writer = await asyncio.open_connection("127.0.0.1", pipe.port)
        writer.write(b"first")
        assert await asyncio.wait_for(reader.readexactly(5), 5) == b"first"
        writer.close()


async def test_a_held_pipe_passes_what_waited_when_it_is_released(pipe: Pipe) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pipe.port)
    writer.write(b"a")
    assert await reader.readexactly(1) == b"a"
    pipe.hold()
    writer.write(b"late")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(4), 0.2)
    pipe.release()
    assert await asyncio.wait_for(reader.readexactly(4), 5) == b"late"
    writer.close()


async def test_a_slow_pipe_keeps_the_order_when_it_becomes_fast(pipe: Pipe) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pipe.port)
    sent = b""
    for number in range(100):
        pipe.delay_s = (100 - number) / 5000
        writer.write(b"%02d." % number)
        await writer.drain()
        sent += b"%02d." % number
        await asyncio.sleep(0)
    assert await asyncio.wait_for(reader.readexactly(len(sent)), 5) == sent
    writer.close()


async def test_a_cut_is_a_reset(pipe: Pipe) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pipe.port)
    writer.write(b"a")
    await reader.readexactly(1)
    assert pipe.cut() == 1
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(1), 5)
    writer.close()


async def test_a_balancer_takes_turns_and_refuses_without_endpoints(echo: tuple[str, int]) -> None:
    balancer = Balancer()
    await balancer.open()
    balancer.endpoints = [("a", echo), ("b", echo)]
    ports = []
    for _ in range(4):
        reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
        writer.write(b"x")
        await reader.readexactly(1)
        ports.append(writer.get_extra_info("sockname")[1])
        writer.close()
    names = [balancer.taken[port] for port in ports]
    assert names in (["a", "b", "a", "b"], ["b", "a", "b", "a"])
    balancer.endpoints = []
    reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    writer.close()
    await balancer.close()
