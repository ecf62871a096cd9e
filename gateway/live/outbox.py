"""Owns what waits to be sent over one WebSocket: frames in order, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque


class Outbox:
    """Frames on their way out, bounded in bytes: who puts more waits. `frames` is to be looked at only."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self.frames: deque[bytes] = deque()
        self._bytes = 0
        self._room = asyncio.Event()
        self._some = asyncio.Event()

    async def put(self, frame: bytes) -> None:
        """Add a frame once there is room; one always fits into an empty outbox."""
        while self.frames and self._bytes + len(frame) > self._most:
            self._room.clear()
            await self._room.wait()
        self._add(frame)

    def put_if_empty(self, frame: bytes) -> None:
        """Add a frame if nothing else is on its way."""
        if not self.frames:
            self._add(frame)

    def _add(self, frame: bytes) -> None:
        self.frames.append(frame)
        self._bytes += len(frame)
        self._some.set()

    async def get(self) -> bytes:
        """Take the oldest frame."""
        while not self.frames:
            self._some.clear()
            await self._some.wait()
        frame = self.frames.popleft()
        self._bytes -= len(frame)
        self._room.set()
        return frame
