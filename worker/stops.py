"""Owns hearing what is said to this worker: stops of its messages, and that a job was queued.

Two subscription links, one to the log's Redis and one to the queue's; each says once more "look at everything" after
it was down, since what was published meanwhile is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.link import Link
from shared.redis import resolver


class Subscription:
    """One channel of one Redis. `heard` gets each message's payload, and None after every (re)connect."""

    def __init__(self, url: str, channel: str, heard: Callable[[str | None], None], *, name: str) -> None:
        self._channel = channel
        self._heard = heard
        self._link = Link(resolver(url), name=name, on_push=self._push, on_up=self._up)
        self.subscribed = False

    async def open(self) -> None:
        """Begin to listen; returns at once."""
        await self._link.open()

    async def close(self) -> None:
        """Stop listening."""
        await self._link.close()

    def _up(self) -> None:
        self._link.post("SUBSCRIBE", self._channel)

    def _push(self, push: list[Any]) -> None:
        if push[0] == b"subscribe":
            self.subscribed = True
            self._heard(None)
        elif push[0] == b"message":
            self._heard(push[2].decode())
