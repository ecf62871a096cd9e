"""Owns what the end of a credential means to a stream that it opened: the stream ends too, at the next event.

No wire has an event of its own for it: the connection breaks, behind a comment line for whoever looks, and the client
comes back with a new credential and its cursor. (A WebSocket is closed with a code: see `gateway.socket_session`.)
"""

from __future__ import annotations

import asyncio
import time

from starlette.types import Scope

from gateway.access.auth import expires_at_of
from gateway.live.care import Watched

LAST_LINE = b": credential_expired\n"
TAKEN_WITHIN_S = 3.0
"""What is on its way at that time may still arrive, for so long; then the connection is dropped."""


class UntilExpiry:
    """Stops `viewer` when the credential of the request ends; `last_words` are empty until then.

    From the beginning on, until `cancel`; or for a `with` block.
    """

    __slots__ = ("_timers", "_viewer", "last_words")

    def __init__(self, scope: Scope, viewer: Watched) -> None:
        self._viewer = viewer
        self._timers: tuple[asyncio.TimerHandle, ...] = ()
        self.last_words = b""
        expires_at = expires_at_of(scope)
        if expires_at is not None:
            loop = asyncio.get_running_loop()
            left = max(expires_at - time.time(), 0.0)
            late = loop.call_later(left + TAKEN_WITHIN_S, viewer.abandon)
            self._timers = (loop.call_later(left, self._stop), late)

    def cancel(self) -> None:
        """The viewer is over."""
        for timer in self._timers:
            timer.cancel()

    def __enter__(self) -> UntilExpiry:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def _stop(self) -> None:
        self.last_words = LAST_LINE
        self._viewer.stop("broken")
