"""Waiting that notices when it has become pointless: the caller has left, or the server stops.

Tasks: one per connection, started by `watching`, which cancels it; it only reads ASGI messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive


class Watch:
    """A stream's clock and its bad news. One waiter at a time; all calls come from one event loop."""

    __slots__ = ("_loop", "_waiter", "disconnected", "gone")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self.gone: str | None = None  # why nobody waits for this stream any more
        self.disconnected = asyncio.Event()  # set once the server has seen the connection end

    def leave(self, reason: str) -> None:
        """Say that nobody waits any more; the first reason stays."""
        self.gone = self.gone or reason
        self.nudge()

    def nudge(self) -> None:
        """End the current wait, if there is one."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait_until(self, due: float) -> bool:
        """Wait until the loop's clock shows `due`, a nudge or bad news; return whether somebody still waits."""
        if self.gone is not None:
            return False
        if due <= self._loop.time():
            await asyncio.sleep(0)
            return self.gone is None
        # One timer and one future per wait, as asyncio.sleep has; nothing else is paid per token.
        self._waiter = waiter = self._loop.create_future()
        timer = self._loop.call_at(due, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None
        return self.gone is None


@asynccontextmanager
async def watching(receive: Receive) -> AsyncIterator[Watch]:
    """Yield a watch that learns within an instant when the caller of this request disconnects."""
    watch = Watch()
    reader = asyncio.create_task(_read_disconnect(receive, watch))
    try:
        yield watch
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _read_disconnect(receive: Receive, watch: Watch) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    watch.disconnected.set()
    watch.leave("client_gone")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
