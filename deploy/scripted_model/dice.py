"""The only source of variety: a tiny seeded generator whose draws are the same on every Python version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")
_MASK = (1 << 64) - 1


class Dice:
    """Draws that depend on the seed alone; `random` may change its algorithms between versions, this may not."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = (seed ^ 0x5DEECE66D1CE4E5B) & _MASK
        for _ in range(4):  # neighbouring seeds start out alike; a few steps part them
            self.roll(2)

    def roll(self, sides: int) -> int:
        """Return an integer from 0 to `sides` - 1."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & _MASK
        return (self._state >> 33) * sides >> 31

    def pick(self, choices: Sequence[_T]) -> _T:
        """Return one of `choices`."""
        return choices[self.roll(len(choices))]

    def chance(self, percent: int) -> bool:
        """Return True in `percent` of a hundred cases."""
        return self.roll(100) < percent
