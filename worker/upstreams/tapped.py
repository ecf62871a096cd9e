"""Owns reading body bytes as they arrive: the only module that relies on aiohttp's internals, which have no
public hook.

Where a response is not what it knows, `reader_of` says so and `worker.upstreams.reading` reads as any client would.
Tasks: none of its own. Bounded by aiohttp's buffer: while nobody pours, the socket is soon read no further.
"""

from __future__ import annotations

import asyncio
from typing import cast

import aiohttp
import httpx2
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from shared.futures import ignore_failure
from worker.upstreams.body import Enough, Room, Take

_MOST_BYTES = 65_536
"""Of what has been kept, given at a time."""


class TappedBody:
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
            # The reader keeps it: with its frames, of which this is one, it would keep what is kept here.
            raise httpx2.ReadError(str(error)) from error.with_traceback(None)

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
            closed.remove_done_callback(ignore_failure)  # one of it is enough
            closed.add_done_callback(ignore_failure)
            if self._reader._waiter is flow:
                self._reader._waiter = None
            if flow.done() and not flow.cancelled():
                flow.exception()  # retrieved, in case we were cancelled meanwhile
            # What it raises knows this frame; if that knew it too, all that `take` knows would wait for the collector.
            del flow


class _Flow(asyncio.Future["bool | None"]):
    """Stands in for the future with which aiohttp's reader wakes a waiting task, so it hears of an end or failure."""

    def __init__(self, take: Take) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.take = take

    def lost(self, closed: asyncio.Future[None]) -> None:
        """Hear that the connection is gone; whatever it had to say about the body has been said."""
        ignore_failure(closed)
        if not self.done():
            self.set_exception(httpx2.ReadError("the connection was lost"))


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
            del flow  # of which the error knows, by this frame: see `TappedBody._flow`
        return False

    # Called twice a token: a function of C that does nothing is cheaper than one of ours that does nothing.
    begin_http_chunk_receiving = staticmethod(bool)  # type: ignore[assignment]
    end_http_chunk_receiving = staticmethod(bool)  # type: ignore[assignment]


def reader_of(stream: object) -> StreamReader | None:
    """Return aiohttp's reader beneath the SDK's client, if that is what is there."""
    for name in ("_stream", "_aiohttp_response", "content"):
        stream = getattr(stream, name, None)
    return stream if type(stream) is StreamReader else None
