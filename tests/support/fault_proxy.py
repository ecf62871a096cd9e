"""Owns a TCP proxy that misbehaves on demand: cuts (with a reset), delays, throttles, goes silent, half-closes.

Connections go to the upstreams in turn, so that with two gateways behind it every reconnect meets the other one.
What happens to a request is decided by the first planned `Fault` that matches it, once.

Tasks: one `_serve` a connection with two pumps in it, all ended by `close`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Self

How = Literal["reset", "close", "half_close", "silence"]
_CHUNK = 65_536
_METHODS = (b"GET ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"HEAD ", b"PATCH ")
_RST = struct.pack("ii", 1, 0)  # linger for no time at all: closing sends RST and drops what is unsent


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens from one request on. Only bytes from server to client are counted, delayed and throttled.

    match: take only a request whose first bytes contain this.
    cut_after: how many bytes of answer pass before the cut, or, with `of`, how many occurrences of that text (the cut
    then comes right behind the last of them); None cuts nothing.
    how: `reset` sends RST; `close` ends both directions in order; `half_close` ends the direction to the client
    and goes on taking what it sends; `silence` keeps everything open and passes nothing more, either way.
    """

    match: bytes = b""
    cut_after: int | None = None
    of: bytes = b""
    how: How = "reset"
    delay_s: float = 0.0
    bytes_per_s: float | None = None


@dataclass(slots=True, eq=False)
class Connection:
    """One connection as it went so far. `requests` are the request lines seen on it, `passed` bytes of answer."""

    upstream: int
    passed: int = 0
    cut: bool = False
    requests: list[str] = field(default_factory=list)
    cut_now: Callable[[How], None] = field(default=lambda how: None, repr=False)


class FaultProxy:
    """Listens on a free loopback port between `async with` and its end."""

    def __init__(self, upstreams: Sequence[tuple[str, int]], *faults: Fault) -> None:
        self.upstreams = list(upstreams)
        self.connections: list[Connection] = []
        self.down = False
        """While true every new connection is reset at once."""
        self._planned = list(faults)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._turn = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Reset what is open and stop listening."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The same as a base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[str]:
        """All request lines so far, by connection."""
        return [line for connection in self.connections for line in connection.requests]

    @property
    def cuts(self) -> int:
        """How many connections were cut."""
        return sum(connection.cut for connection in self.connections)

    def plan(self, *faults: Fault) -> None:
        """Queue faults for requests to come; one without a match for it goes on undisturbed."""
        self._planned.extend(faults)

    def cut(self, how: How = "reset") -> None:
        """Do it to every connection that is open now."""
        for connection in self.connections:
            connection.cut_now(how)

    # -- one connection

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either side went away, or we are closing: the task is ours, and ends here
        finally:
            _reset(writer)  # unless it was closed in order
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = b"" if self.down else await reader.read(_CHUNK)
        if not first or self.down:
            return
        upstream, self._turn = self._turn % len(self.upstreams), self._turn + 1
        connection = Connection(upstream)
        self.connections.append(connection)
        up_reader, up_writer = await asyncio.open_connection(*self.upstreams[upstream])
        try:
            await _Pumps(connection, (reader, writer), (up_reader, up_writer), self._take_fault).run(first)
        finally:
            connection.cut_now = lambda how: None
            _reset(up_writer)

    def _take_fault(self, request: bytes) -> Fault | None:
        for fault in self._planned:
            if fault.match in request:
                self._planned.remove(fault)
                return fault
        return None


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Pumps:
    """The two directions of one connection."""

    def __init__(
        self, connection: Connection, client: Ends, server: Ends, take_fault: Callable[[bytes], Fault | None]
    ) -> None:
        self._connection = connection
        self._take_fault = take_fault
        self._client = client
        self._server = server
        self._fault = Fault()
        self._since = 0
        self._seen = 0
        self._tail = b""
        self._cut: asyncio.Future[How] = asyncio.get_running_loop().create_future()
        connection.cut_now = self.cut

    def cut(self, how: How) -> None:
        if not self._cut.done():
            self._connection.cut = True
            self._cut.set_result(how)

    async def run(self, first: bytes) -> None:
        up, down = asyncio.create_task(self._upwards(first)), asyncio.create_task(self._downwards())
        waiting: set[asyncio.Future[Any]] = {up, down, self._cut}
        try:
            while not self._cut.done() and not down.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if up in done and up.exception() is not None:
                    return  # the client is gone; one that only has no more to send may still be answered
            if self._cut.done():
                await self._do(self._cut.result(), up, down)
            elif down.exception() is None:
                await _close(self._client[1])
        finally:
            for pump in (up, down):
                pump.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _do(self, how: How, up: asyncio.Task[None], down: asyncio.Task[None]) -> None:
        to_client = self._client[1]
        if how == "reset":
            _reset(to_client)
            return
        down.cancel()
        if how == "silence":
            up.cancel()
            await asyncio.get_running_loop().create_future()
        to_client.write_eof()
        if how == "half_close":
            await asyncio.wait([up])
        else:
            await _close(to_client)

    async def _upwards(self, first: bytes) -> None:
        """Pass on what the client sends, and its end."""
        reader, writer = self._client[0], self._server[1]
        data = first
        while data:
            if data.startswith(_METHODS):
                self._connection.requests.append(data.split(b"\r\n", 1)[0].decode("latin-1"))
            self._note(data)
            await _send(writer, data)
            data = await reader.read(_CHUNK)
        writer.write_eof()

    def _note(self, data: bytes) -> None:
        """Take the fault that is planned for this request, if one is."""
        fault = self._take_fault(data)
        if fault is not None:
            self._fault, self._since, self._seen, self._tail = fault, self._connection.passed, 0, b""
            if fault.cut_after == 0:
                self.cut(fault.how)

    async def _downwards(self) -> None:
        """Pass on what the server sends, as the fault has it, and its end."""
        reader, writer = self._server[0], self._client[1]
        while data := await reader.read(_CHUNK):
            fault = self._fault
            if self._connection.passed == self._since:
                await asyncio.sleep(fault.delay_s)
            keep = self._until_cut(data)
            await self._slowly(writer, data if keep is None else data[:keep], fault.bytes_per_s)
            if keep is not None:
                self.cut(fault.how)
                return
        writer.write_eof()

    async def _slowly(self, writer: asyncio.StreamWriter, data: bytes, bytes_per_s: float | None) -> None:
        size = _CHUNK if bytes_per_s is None else max(1, int(bytes_per_s / 50))
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            await _send(writer, piece)
            self._connection.passed += len(piece)
            if bytes_per_s is not None:
                await asyncio.sleep(len(piece) / bytes_per_s)

    def _until_cut(self, data: bytes) -> int | None:
        """Return how much of `data` still passes, None if all of it and no cut follows."""
        limit, text = self._fault.cut_after, self._fault.of
        if limit is None:
            return None
        if not text:
            left = limit - (self._connection.passed - self._since)
            return left if left <= len(data) else None
        joined, at = self._tail + data, 0
        while (found := joined.find(text, at)) >= 0:
            at, self._seen = found + len(text), self._seen + 1
            if self._seen == limit:
                return max(0, at - len(self._tail))
        self._tail = joined[max(at, len(joined) - len(text) + 1) :]
        return None


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    if not writer.is_closing():
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close in order, after what is still to be sent."""
    writer.close()
    await writer.wait_closed()


async def eventually(condition: Callable[[], bool | Awaitable[bool]], within_s: float = 10.0) -> None:
    """Return once `condition` holds; raise `TimeoutError` if it does not in time."""
    async with asyncio.timeout(within_s):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.01)
