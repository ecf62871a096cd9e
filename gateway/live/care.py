"""Owns what is looked after once a second: quiet connections get a comment line, those whose peer takes nothing are
cut off, those that are old enough break, and all of them where Redis is away for too long.

One viewer that is not looked after costs the others nothing (`gateway.live.turns`). No task of its own: the hub's
ticker calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.live.follower import Outcome
from gateway.protocols.base import Wire


class Watched(Protocol):
    """A connection under care: a viewer, or something else that stays open."""

    wire: Wire
    break_at: float

    @property
    def last_write(self) -> float:
        """When something was written last, by the loop's clock."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""

    def stuck(self, now: float) -> float:
        """Return for how long the socket has taken nothing of what waits for it."""

    def ping(self, line: bytes) -> None:
        """Put out a sign of life if nothing else is on its way."""

    def stop(self, outcome: Outcome) -> None:
        """End at the next event border."""

    def abandon(self) -> None:
        """End now."""


class Care:
    """Looks after `viewers`, a set that its owner fills and empties."""

    def __init__(
        self,
        viewers: set[Watched],
        *,
        heartbeat_s: float,
        send_timeout_s: float,
        redis_gone_s: float,
        cut_off: Callable[[Watched], None],
    ) -> None:
        """`cut_off` ends a viewer whose socket has taken nothing for `send_timeout_s`."""
        self._viewers = viewers
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        self._redis_gone_s = redis_gone_s
        self._cut_off = cut_off
        self._down_since: float | None = None

    def link_is(self, up: bool) -> None:
        """Take note of the live link; once it was down for `redis_gone_s`, break every connection."""
        if up:
            self._down_since = None
            return
        now = asyncio.get_running_loop().time()
        if self._down_since is None:
            self._down_since = now
        if now - self._down_since > self._redis_gone_s:
            for viewer in tuple(self._viewers):
                viewer.stop("broken")

    def look_after(self, viewer: Watched) -> None:
        """Do for one viewer what is due."""
        if viewer not in self._viewers:
            return  # left since this tick began
        now = asyncio.get_running_loop().time()
        if viewer.gone:
            viewer.stop("left")
        elif viewer.stuck(now) > self._send_timeout_s:
            self._cut_off(viewer)
        elif now >= viewer.break_at:
            viewer.stop("broken")
        elif now - viewer.last_write >= self._heartbeat_s:
            viewer.ping(viewer.wire.ping if self._down_since is None else viewer.wire.stalled)
