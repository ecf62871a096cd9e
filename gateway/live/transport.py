"""Owns the way past ASGI to the connection itself: with `gateway.connection` and `gateway.slim`, all that
knows uvicorn's inside.

Three things have no word in ASGI. Breaking a connection: a clean end of body means success to every client, so
what is not the end must break. Writing without waiting: a `send` for each viewer and token costs a coroutine each,
four times what the bytes cost. And returning before the end: the calls that the application is made of cost a silent
viewer more memory than the viewer itself. So the outermost wrapper notes the server's request cycle in the scope;
where it is not the one we know, viewers fall back to plain ASGI, and breaking falls back to raising, which servers
answer by closing the connection without a clean end.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import sys
from array import array
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from fcntl import ioctl
from socket import IPPROTO_TCP, TCP_INFO
from termios import TIOCOUTQ
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.tasks import end_tasks

log = logging.getLogger(__name__)

_KEY = "tailrace.cycle"
DETACH = "tailrace.detach"
"""Where in the scope our own server offers to let a response go on without its application's call."""
_BYTES_ACKED = struct.Struct("=Q")
"""`tcpi_bytes_acked` of Linux's `struct tcp_info`, 120 bytes into it since 4.2."""
LOOK_EVERY_S = 0.02
STANDS_S = 0.5
CLOSED_WITHIN_S = 5.0


class BrokenOff(Exception):
    """Raised out of the application to make a server break the connection when we cannot do it ourselves."""


class ExposeTransport:
    """Outermost ASGI wrapper: remembers the server's request cycle before other wrappers hide `send`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[_KEY] = getattr(send, "__self__", None)
        try:
            await self._app(scope, receive, send)
        finally:
            scope.pop(_KEY, None)  # it has the scope itself, and a circle waits for the garbage collector


Transport = asyncio.Transport
"""A connection's, as the server has it."""


class Connection:
    """A server's connection during one response."""

    __slots__ = ("_cycle", "_detach", "transport")

    def __init__(self, cycle: Any, detach: Callable[[Any], Any] | None = None) -> None:
        self._cycle = cycle
        self.transport: Transport = cycle.transport
        """For `push_to_all`."""
        self._detach = detach

    @property
    def chunked(self) -> bool:
        """Whether the response is under way in chunks: then `push` may be used."""
        return self._cycle.chunked_encoding is True and self._cycle.response_started

    @property
    def gone(self) -> bool:
        """Whether the client has left or the connection is closing; the transport may not be used then."""
        return bool(self.transport.is_closing())

    @property
    def backlog(self) -> int:
        """Bytes written and not yet taken by the socket."""
        return int(self.transport.get_write_buffer_size())  # may be asked of a closed one too

    @property
    def taken(self) -> int:
        """A number that grows while the client takes bytes."""
        return taken_by(self.transport)

    def detach(self) -> bool:
        """Have the response go on when the application's call returns; False if the server does not know how.

        From then on the connection is the caller's to end: by a last `send`, or by `close` or `abort`.
        """
        if self._detach is None:
            return False
        self._cycle, self._detach = self._detach(self._cycle), None
        return True

    async def send(self, message: Message) -> None:
        """As the server's own `send`."""
        await self._cycle.send(message)

    async def wait_closed(self) -> None:
        """Return once the connection is closed."""
        await disconnected(self._cycle.receive)

    def push(self, chunks: bytes, bound: int) -> bool:
        """Write whole chunks to this connection alone, as `push_to_all`; return whether it has taken them."""
        return not push_to_all((self.transport,), chunks, bound)

    async def wait_taken(self, within_s: float) -> bool:
        """Wait until the client has, as far as can be told from here, taken everything; False if it has not in time.

        What is only written may sit in our own system's buffer until a lost phone's connection times out: the peer's
        system must acknowledge it. And who was cut off at the very end resets the connection, while who has it all
        keeps it for the next request: so it must stand for a moment more.
        """
        loop = asyncio.get_running_loop()
        end, stands_until = loop.time() + within_s, float("inf")
        while loop.time() < min(end, stands_until):
            if self.transport.is_closing():
                return not self._cycle.keep_alive  # then it is we who close, as was asked
            if stands_until > end and self.backlog == 0 and _unacknowledged(self.transport) == 0:
                stands_until = loop.time() + STANDS_S
            await asyncio.sleep(LOOK_EVERY_S)
        return stands_until <= end

    def close(self) -> None:
        """Close after what is written, without an end of body; in the middle of it if the client does not take it."""
        self.transport.close()
        asyncio.get_running_loop().call_later(CLOSED_WITHIN_S, self.transport.abort)

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()


def push_to_all(transports: Sequence[Transport], chunks: bytes, bound: int) -> Sequence[int]:
    """Write whole chunks (`chunk` makes them) to many connections without waiting; return which have not taken them.

    Those are where more than `bound` bytes wait already, and nothing is written. What is for a client that has left
    goes nowhere: watch `gone`. (One loop and no call of ours for each: a token to a thousand viewers is a thousand
    turns of it.)
    """
    refused: list[int] = []
    for index, transport in enumerate(transports):
        try:
            if transport.is_closing():
                continue
            if transport.get_write_buffer_size() > bound:
                refused.append(index)
            else:
                transport.write(chunks)
        except Exception:  # one viewer's broken connection must not cost another's bytes
            log.exception("write to a viewer failed")
            refused.append(index)
    return refused


def _unacknowledged(transport: Any) -> int:
    """Return how many bytes the system has sent and not seen acknowledged; 0 where it does not tell."""
    sock = transport.get_extra_info("socket")
    if sock is None or not sys.platform.startswith("linux"):
        return 0
    with suppress(OSError):
        waiting = array("i", [0])
        ioctl(sock.fileno(), TIOCOUTQ, waiting)  # SIOCOUTQ by its other name
        return waiting[0]
    return 0


def taken_by(transport: Any) -> int:
    """Return a number that grows while the peer takes bytes: those that its system has acknowledged so far.

    Where ours does not tell, and once the transport is closed: how few wait in our own memory.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sys.platform.startswith("linux"):
        with suppress(OSError, ValueError, struct.error):  # ValueError: a closed one, as uvloop has it
            return int(_BYTES_ACKED.unpack_from(sock.getsockopt(IPPROTO_TCP, TCP_INFO, 128), 120)[0])
    return -int(transport.get_write_buffer_size())


async def break_off(scope: Scope, receive: Receive) -> None:
    """Break the connection, after what is already written, and wait until it is closed.

    If the application returned before that, the server would think that it had forgotten to end its response.
    """
    connection = connection_of(scope)
    if connection is None:
        raise BrokenOff
    connection.close()
    await disconnected(receive)


async def disconnected(receive: Receive) -> None:
    """Return once the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def until_left(receive: Receive, leave: Callable[[], object]) -> AsyncGenerator[None, None]:
    """Call `leave` if the client leaves while the block lasts."""

    async def listen() -> None:
        await disconnected(receive)
        leave()

    listening = asyncio.create_task(listen())
    try:
        yield
    finally:
        await end_tasks(listening)


def abort_socket(send: Send) -> None:
    """Drop a WebSocket's connection now, unsent bytes included; `send` is the server's own."""
    transport = _transport_of(send)
    if transport is not None:
        transport.abort()


def taken_by_socket(send: Send) -> int:
    """As `taken_by`, of a WebSocket; 0 where the server does not tell."""
    transport = _transport_of(send)
    return 0 if transport is None else taken_by(transport)


def _transport_of(send: Send) -> Any:
    return getattr(getattr(send, "__self__", None), "transport", None)


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk of HTTP/1.1's chunked coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def connection_of(scope: Scope) -> Connection | None:
    """Return the connection, if the server is one that we know."""
    cycle = scope.get(_KEY)
    known = all(hasattr(cycle, name) for name in ("transport", "response_started", "keep_alive", "receive"))
    if not known or not hasattr(cycle, "chunked_encoding"):
        return None
    return Connection(cycle, scope.get(DETACH))
