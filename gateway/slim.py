"""Owns stand-ins for parts of uvicorn's that cost much while they do nothing: an empty deque takes 0.6 kB, and each
connection would keep three of them for as long as it is open.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar, cast

from uvicorn.protocols.http.flow_control import FlowControl

T = TypeVar("T")


class LazyEvent:
    """An event that has a queue only once somebody waits."""

    __slots__ = ("_event", "_set")

    def __init__(self, *, is_set: bool = False) -> None:
        self._set = is_set
        self._event: asyncio.Event | None = None

    def set(self) -> None:
        """Wake everybody who waits."""
        self._set = True
        if self._event is not None:
            self._event.set()
            self._event = None

    def clear(self) -> None:
        """Have the next one wait."""
        self._set = False

    async def wait(self) -> None:
        """Return once the event is set."""
        if not self._set:
            if self._event is None:
                self._event = asyncio.Event()
            await self._event.wait()


class SlimFlow(FlowControl):
    """uvicorn's, but for its event."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = False
        self.write_paused = False
        self._is_writable_event = cast(asyncio.Event, LazyEvent(is_set=True))


class SlimQueue(list[T]):
    """What uvicorn asks of a deque. Few requests are sent ahead: `gateway.connection` bounds them."""

    __slots__ = ()

    def appendleft(self, item: T) -> None:
        """Put `item` where `pop` takes it last."""
        self.insert(0, item)
