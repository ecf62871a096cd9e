"""Owns what the end of a credential means to a stream that it opened: the stream ends too, at the next event.

No wire has an event of its own for it: the connection breaks, behind a comment line for whoever looks, and the client
comes back with a new credential and its cursor. (A WebSocket is closed with a code instead, see `gateway.live.socket`.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Scope

from gateway.access.auth import expires_at_of
from gateway.live.hub import Watched

LAST_LINE = b": credential_expired\n"
TAKEN_WITHIN_S = 3.0
"""What is on its way at that time may still arrive, for so long; then the connection is dropped."""


class Expiry:
    """Whether it has come to that."""

    last_words = b""


@contextmanager
def until_expiry(scope: Scope, viewer: Watched) -> Iterator[Expiry]:
    """Stop `viewer` when the credential of the request ends; `last_words` are empty until then."""
    expiry = Expiry()
    expires_at = expires_at_of(scope)
    if expires_at is None:
        yield expiry
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        expiry.last_words = LAST_LINE
        viewer.stop("broken")

    left = max(expires_at - time.time(), 0.0)
    timers = [loop.call_later(left, stop), loop.call_later(left + TAKEN_WITHIN_S, viewer.abandon)]
    try:
        yield expiry
    finally:
        for timer in timers:
            timer.cancel()
