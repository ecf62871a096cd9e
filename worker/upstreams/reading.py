"""Owns reading the body of an SDK's response: pieces given to a function, with as little as possible in between.

`_Tapped` reaches into aiohttp, which has no public way to be told of bytes where they arrive; where the response is
not what it knows, or settings forbid it, the body is read as any other client would (`_Pulled`).
Tasks: none of its own. Bounded by aiohttp's buffer: while nobody pours, the socket is soon read no further.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol, cast

import aiohttp
import httpx2
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from openai import AsyncAPIResponse

_PLAIN = ("", "identity")
_MOST_BYTES = 65_536
"""Of what has been kept, given at a time."""

Take = Callable[[bytes], bool]
"""Takes a piece and tells whether to wait for room before the next one; raises `Enough` to have no more of them."""
Room = Callable[[], Awaitable[None]]


class Enough(Exception):
    """Raised by who takes a body's pieces and has all that it came for."""


class Body(Protocol):
    """The body of one response."""

    async def pour(self, take: Take, room: Room) -> bool:
        """Give `take` the pieces as they come; return whether the body is over (False: `take` had enough).

        May be called again after it had enough. Raises what `take` raises, and `httpx2.HTTPError` if the body breaks.
        """
        ...


@asynccontextmanager
async def body_of(response: AsyncAPIResponse[Any], *, direct: bool) -> AsyncGenerator[Body, None]:
    """Yield the body. `direct`: its pieces are handed over where their bytes arrive, if that can be.

    A body without a content coding is read from the transport's own stream: the three generators that the client and
    the SDK put before it do nothing to such a body, and cost more than a token's decoding.
    """
    http = response.http_response
    plain = http.headers.get("content-encoding", "").strip().lower() in _PLAIN
    reader = _reader_of(http.stream) if plain and direct else None
    if reader is not None:
        yield _Tapped(reader)
        return
    pieces = aiter(http.stream) if plain else response.iter_bytes()  # type: ignore[arg-type]  # of an async client
    async with aclosing(cast("AsyncGenerator[bytes, None]", pieces)) as closing:
        yield _Pulled(closing)


class _Pulled:
    """A body read by its task, piece by piece."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces

    async def pour(self, take: Take, room: Room) -> bool:
        try:
            async for piece in self._pieces:
                if take(piece):
                    await room()
        except Enough:
            return False
        return True


class _Tapped:
    """A body whose bytes are taken within the callback that brings them; the task sleeps until something is wrong."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        reader.__class__ = _PouringReader

    async def pour(self, take: Take, room: Room) -> bool:
        try:
            while True:
                # What came while nobody took it; it may raise what has broken the body since.
                while piece := self._reader.read_nowait(_MOST_BYTES):
                    if take(piece):
                        await room()
                if self._reader.at_eof():
                    return True
                if await self._flow(take):
                    await room()
        except Enough:
            return False
        except (aiohttp.ClientError, HttpProcessingError) as error:
            raise httpx2.ReadError(str(error)) from error

    async def _flow(self, take: Take) -> bool:
        """Let the bytes flow to the end or until `take` wants to wait (True)."""
        flow = _Flow(take)
        # A body that breaks HTTP's own rules closes the connection, and aiohttp's reader hears nothing of that.
        closed: asyncio.Future[None] | None = getattr(self._reader._protocol, "closed", None)
        if closed is None:
            raise httpx2.ReadError("the connection is closed")
        closed.add_done_callback(flow.lost)
        self._reader._waiter = cast("asyncio.Future[None]", flow)
        try:
            return await flow or False
        finally:
            closed.remove_done_callback(flow.lost)
            closed.remove_done_callback(_overhear)  # one of it is enough
            closed.add_done_callback(_overhear)
            if self._reader._waiter is flow:
                self._reader._waiter = None
            if flow.done() and not flow.cancelled():
                flow.exception()  # looked at, should we have been cancelled meanwhile


class _Flow(asyncio.Future["bool | None"]):
    """Stands where aiohttp's reader has the future of a task that waits for bytes; so it ends or fails as well."""

    def __init__(self, take: Take) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.take = take

    def lost(self, closed: asyncio.Future[None]) -> None:
        """Hear that the connection is gone; whatever it had to say about the body has been said."""
        _overhear(closed)
        if not self.done():
            self.set_exception(httpx2.ReadError("the connection was lost"))


def _overhear(closed: asyncio.Future[None]) -> None:
    """Look at why a connection ended, so that asyncio does not report it as forgotten."""
    if not closed.cancelled():
        closed.exception()


class _PouringReader(StreamReader):
    """A reader that gives bytes away instead of keeping them, while they flow.

    It takes the place of the class of a reader under way, so it adds no state. Chunk borders are of no use here.
    """

    __slots__ = ()

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        flow = self._waiter
        if type(flow) is not _Flow:
            return super().feed_data(data, size)
        try:
            if flow.take(data):
                self._waiter = None
                flow.set_result(True)
        except Exception as error:  # for the task that pours, not for aiohttp's parser
            self._waiter = None
            if not flow.done():
                flow.set_exception(error)
        return False

    # Called twice a token: a function of C that does nothing is cheaper than one of ours that does nothing.
    begin_http_chunk_receiving = staticmethod(bool)  # type: ignore[assignment]
    end_http_chunk_receiving = staticmethod(bool)  # type: ignore[assignment]


def _reader_of(stream: object) -> StreamReader | None:
    """Return aiohttp's reader beneath the SDK's client, if that is what is there."""
    for name in ("_stream", "_aiohttp_response", "content"):
        stream = getattr(stream, name, None)
    return stream if type(stream) is StreamReader else None
