"""Owns what a viewer asks of where its bytes go."""

from __future__ import annotations

from typing import Protocol

from gateway.live.transport import Transport


class Direct(Protocol):
    """A way past `send`."""

    transport: Transport
    """What `push_to_all` takes."""

    def push(self, chunks: bytes, bound: int) -> bool:
        """Hand over whole HTTP chunks without waiting; False if more than `bound` bytes wait already."""


class Sink(Protocol):
    """Where a viewer's bytes go: one HTTP response (or one subscription of a WebSocket)."""

    started: bool

    @property
    def direct(self) -> Direct | None:
        """What may be used now instead of `send`, if anything."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""

    @property
    def backlog(self) -> int:
        """Bytes handed over that the socket has not taken yet, as far as the connection knows."""

    @property
    def taken(self) -> int:
        """A number that grows while the client takes bytes, as far as the connection knows."""

    async def send(self, data: bytes) -> None:
        """Hand over bytes; returns when the next may come. Starts the response on first use."""

    def abort(self) -> None:
        """Drop the connection now, unsent bytes included; a pending `send` returns."""
