"""Owns a WebSocket client for tests: frames as dictionaries, sorted by subscription, every wait with a deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

WITHIN_S = 10.0
PROTOCOL = "tailrace.v1"


class SocketClient:
    """One socket. `told` has every frame so far, in order."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.told: list[dict[str, Any]] = []

    async def say(self, kind: str, **fields: Any) -> None:
        """Send a frame."""
        await self._connection.send(json.dumps({"type": kind, **fields}))

    async def say_raw(self, data: str | bytes) -> None:
        """Send what need not be a frame."""
        await self._connection.send(data)

    async def hear(self) -> dict[str, Any]:
        """Return the next frame."""
        async with asyncio.timeout(WITHIN_S):
            frame: dict[str, Any] = json.loads(await self._connection.recv())
        self.told.append(frame)
        return frame

    async def hear_kind(self, kind: str, sub: str | None = None) -> dict[str, Any]:
        """Return the next frame of that type (and subscription), passing over others."""
        while True:
            frame = await self.hear()
            if frame["type"] == kind and (sub is None or frame.get("sub") == sub):
                return frame

    async def told_kind(self, kind: str, sub: str | None = None) -> dict[str, Any]:
        """Return the first such frame, come already or still to come."""
        for frame in self.told:
            if frame["type"] == kind and (sub is None or frame.get("sub") == sub):
                return frame
        return await self.hear_kind(kind, sub)

    async def hear_entries(self, sub: str, count: int) -> list[dict[str, Any]]:
        """Return the subscription's entries so far, once there are so many."""
        while len(found := self.entries(sub)) < count:
            await self.hear()
        return found

    def entries(self, sub: str) -> list[dict[str, Any]]:
        """Return all entries that a subscription has brought so far."""
        return [entry for frame in self.told if frame["type"] == "entries" and frame["sub"] == sub
                for entry in frame["entries"]]  # fmt: skip

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait until the server closes the socket; return its code and reason."""
        try:
            while True:
                await self.hear()
        except websockets.ConnectionClosed:
            return self._connection.close_code, self._connection.close_reason

    def pause_reading(self) -> None:
        """Take nothing more from the network."""
        self._connection.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take again."""
        self._connection.transport.resume_reading()


@asynccontextmanager
async def open_socket(
    url: str, *, path: str = "/ws", protocols: Sequence[str] = (), **headers: str
) -> AsyncIterator[SocketClient]:
    """Connect to the gateway at `url` (http) and wait for nothing; `headers` with underscores for dashes."""
    async with websockets.connect(
        url.replace("http", "ws", 1) + path,
        subprotocols=[Subprotocol(name) for name in protocols] or None,
        additional_headers={name.replace("_", "-"): value for name, value in headers.items()},
        compression=None,
        max_size=None,
        open_timeout=WITHIN_S,
        close_timeout=1,
    ) as connection:
        yield SocketClient(connection)
