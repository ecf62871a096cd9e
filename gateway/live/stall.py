"""Owns telling a slow peer from one that takes nothing: bytes that it took since the last look are what counts.

Time alone cannot tell: one large entry may take a slow phone minutes, all of them spent reading.
"""

from __future__ import annotations

Stall = tuple[float, float]
"""How much had been taken, and when that was last seen to grow."""

NO_STALL: Stall = (float("-inf"), 0.0)
"""Before the first look, and whenever nothing waits."""


def look(stall: Stall, taken: float, now: float) -> Stall:
    """Return what a look at `now` makes of an earlier one. `taken`: a number that grows while the peer takes bytes."""
    return (taken, now) if taken > stall[0] else stall
