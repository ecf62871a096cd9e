"""One HTTP response as a stream sees it: open, write frames, pause, end well or badly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from starlette.types import Scope, Send

from deploy.scripted_model.connection import reset, transport_of, write_bytewise
from deploy.scripted_model.faults import Faults
from deploy.scripted_model.settings import MAX_HANG_S
from deploy.scripted_model.watch import Watch

Headers = Iterable[tuple[bytes, bytes]]

SSE_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
JSON_HEADERS: Headers = ((b"content-type", b"application/json"),)

_PING_EVERY_S = 0.2
_RESET_S = 1.0
_PING = b": still thinking\n\n"


class Outlet:
    """Writes frames to one caller, in the form its faults ask for."""

    def __init__(self, scope: Scope, send: Send, watch: Watch, faults: Faults) -> None:
        self.watch = watch
        self._send = send
        self._transport = transport_of(scope)
        self._crlf = faults.has("crlf")
        self._bytewise = faults.has("one_byte")
        self._pings = faults.has("pings")
        self._opened = False

    async def open(self, headers: Headers = SSE_HEADERS, status: int = 200, extra: Headers = ()) -> None:
        """Send status line and headers."""
        self._opened = True
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *extra]})

    async def write(self, frames: bytes) -> None:
        """Send `frames`; returns when they are buffered and the buffer is not full."""
        if not frames or self.watch.gone is not None:
            return
        if self._crlf:
            frames = frames.replace(b"\n", b"\r\n")
        if self._bytewise:
            await write_bytewise(self._transport, frames)
        else:
            await self._send({"type": "http.response.body", "body": frames, "more_body": True})

    async def pause_until(self, due: float) -> bool:
        """Wait until `due`, with comments on the wire if pings were asked for; return whether the caller is there."""
        if not self._pings:
            return await self.watch.wait_until(due)
        loop = asyncio.get_running_loop()
        while self._opened and due - loop.time() > _PING_EVERY_S:
            if not await self.watch.wait_until(loop.time() + _PING_EVERY_S):
                return False
            await self.write(_PING)
        return await self.watch.wait_until(due)

    async def hang(self) -> None:
        """Stay silent until the caller leaves."""
        await self.pause_until(asyncio.get_running_loop().time() + MAX_HANG_S)

    async def end(self) -> None:
        """End the response as HTTP wants it."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def reset(self) -> None:
        """Cut the connection with a TCP RST."""
        await reset(self._transport)
        # The server would report an unfinished response as an error if it had not seen the cut yet.
        with suppress(TimeoutError):
            async with asyncio.timeout(_RESET_S):
                await self.watch.disconnected.wait()
