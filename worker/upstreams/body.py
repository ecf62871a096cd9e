"""Owns the shape of a response's body: pieces poured into a function, which may want to wait, or have had enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

Take = Callable[[bytes], bool]
"""Takes a piece and tells whether to wait for room before the next one; raises `Enough` to have no more of them."""
Room = Callable[[], Awaitable[None]]


class Enough(Exception):
    """Raised by `take` when it needs no more of the body."""


class Body(Protocol):
    """The body of one response."""

    async def pour(self, take: Take, room: Room) -> bool:
        """Give `take` the pieces as they come; return whether the body is over (False: `take` had enough).

        May be called again after it had enough. Raises what `take` raises, and `httpx2.HTTPError` if the body breaks.
        """
        ...
