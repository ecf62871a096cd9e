"""Owns one connection's place in its user's feed: what is kept, then what comes, out of no buffer at all.

What is published only wakes it; it reads the feed itself, from its cursor, at its own pace. Feeds are short and their
lines few, so a read a line costs less than keeping connections in step would.

Tasks: `run` is the connection's own. The hub's ticker looks after pings, rotation and stuck sockets.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.live.follower import Outcome
from gateway.live.hub import Hub
from gateway.live.stall import NO_STALL, look
from gateway.protocols.base import Wire
from gateway.protocols.native import NATIVE
from shared.errors import Unavailable
from shared.feed import Feed, feed_key

Lines = Sequence[tuple[str | None, bytes]]
"""Lines with their ids; the one that says `reset` has none."""

RESET: Lines = ((None, b'{"type":"reset"}'),)
PAUSE_S = 0.5
"""Between two tries to read while Redis is away."""
_CURSOR = re.compile(r"[0-9]{1,16}-[0-9]{1,9}", re.ASCII)


class FeedSink(Protocol):
    """Where a feed goes: one HTTP response, or one subscription of a WebSocket."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""

    @property
    def taken(self) -> int:
        """See `Sink`."""

    async def send(self, data: bytes) -> None:
        """Hand over bytes; returns when the next may come."""

    def abort(self) -> None:
        """Drop the connection now."""


class FeedViewer:
    """Follows the feed of `scope` from behind `after`; anything that is no cursor of ours counts as too old."""

    wire: Wire = NATIVE

    def __init__(
        self,
        hub: Hub,
        feed: Feed,
        scope: str,
        sink: FeedSink,
        encode: Callable[[Lines], bytes],
        *,
        after: str | None,
    ) -> None:
        self._hub = hub
        self._feed = feed
        self._scope = scope
        self._sink = sink
        self._encode = encode
        self._void = after is not None and _CURSOR.fullmatch(after) is None
        self._after = after
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._ping = b""
        self._stop: Outcome | None = None
        self._sending = False
        self._stall = NO_STALL
        self.break_at = hub.break_at(self.wire)
        self.last_write = self._loop.time()

    async def run(self) -> Outcome:
        """Deliver until the connection rotates or its client leaves; a feed has no end."""
        self._wake.set()
        with self._hub.listening(feed_key(self._scope), self._wake.set):
            while self._stop is None:
                await self._wake.wait()
                self._wake.clear()  # before the read: what is published meanwhile is read next time
                if self._ping:
                    ping, self._ping = self._ping, b""
                    await self._write(ping)
                await self._deliver()
        return self._stop

    async def _deliver(self) -> None:
        while self._stop is None:
            try:
                lines = None if self._void else await self._feed.read(self._scope, self._after)
            except Unavailable:
                await asyncio.sleep(PAUSE_S)
                continue
            if lines is None:
                self._after, self._void = None, False
                await self._write(self._encode(RESET))
            elif lines:
                self._after = lines[-1][0]
                await self._write(self._encode(lines))
            else:
                return

    async def _write(self, data: bytes) -> None:
        self._sending = True
        await self._sink.send(data)
        self._sending = False
        self.last_write = self._loop.time()

    # -- for the hub's ticker

    @property
    def gone(self) -> bool:
        return self._sink.gone

    def stuck(self, now: float) -> float:
        self._stall = NO_STALL if not self._sending else look(self._stall, self._sink.taken, now)
        return now - self._stall[1] if self._sending else 0.0

    def ping(self, line: bytes) -> None:
        self._ping = line
        self._wake.set()

    def stop(self, outcome: Outcome) -> None:
        if self._stop is None:
            self._stop = outcome
        self._wake.set()

    def abandon(self) -> None:
        self.stop("broken")
        self._sink.abort()
