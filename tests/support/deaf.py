"""Owns a piece of work that ignores its cancellation until it is allowed to hear of it."""

from __future__ import annotations

import asyncio
from typing import Any


class Deaf:
    """`called`: it was cancelled. It goes on all the same until `heard` is set, and is cancelled then."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.called = asyncio.Event()
        self.heard = asyncio.Event()

    async def listen(self, *_: Any, **__: Any) -> None:
        """Wait until `heard` is set; nothing else ends it."""
        self.begun.set()
        while not self.heard.is_set():
            try:
                await self.heard.wait()
            except asyncio.CancelledError:
                self.called.set()
        raise asyncio.CancelledError
