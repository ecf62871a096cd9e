"""Owns the verdict on a curve: which power of x it grows with, where it grows. Pure.

Method: what a process costs anyhow is taken off (`fixed`: measured before the load came, or else where the line
through the two lowest points meets x = 0), and a straight line is put through the logarithms of what is left, by least
squares. Only the upper part counts: points of at least a thirtieth of the largest x, and at least three. Its slope is
the exponent: 1 is linear, 2 square. Taking the fixed part off hides no growth: with it every curve looks flatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

UPPER_PART = 1 / 30
FEWEST = 3
LINEAR = 1.1
"""Slopes up to this one count as linear: runs differ by some per cent."""
BELOW = 0.9
FLAT, FLAT_MEASURED = 0.25, 0.05
"""A curve that rises by less than this share of its fixed part over its whole length does not grow: the one for a
fixed part that was estimated, the other for one that was measured."""

Point = tuple[float, float]
Word = Literal["flat", "less than linear", "linear", "faster than linear"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a curve grows; `slope` is None where it does not."""

    word: Word
    slope: float | None

    @property
    def bad(self) -> bool:
        return self.word == "faster than linear"


def judge(points: Sequence[Point], fixed: float | None = None) -> Verdict:
    """Say how `points`, by ascending x, grow. Raises `ValueError` for fewer than three."""
    if len(points) < FEWEST:
        raise ValueError(f"{len(points)} points say nothing about growth")
    base = _meets_zero(points) if fixed is None else fixed
    grown = [(x, y - base) for x, y in points]
    upper = [point for point in grown if point[0] >= points[-1][0] * UPPER_PART]
    upper = [(x, y) for x, y in (upper if len(upper) >= FEWEST else grown[-FEWEST:]) if y > 0]
    if len(upper) < 2 or upper[-1][1] <= base * (FLAT if fixed is None else FLAT_MEASURED):
        return Verdict("flat", None)
    slope = _slope([(log(x), log(y)) for x, y in upper])
    if slope > LINEAR:
        return Verdict("faster than linear", slope)
    return Verdict("linear" if slope >= BELOW else "less than linear", slope)


def _meets_zero(points: Sequence[Point]) -> float:
    """Return what the two lowest points say of x = 0; a cost is not negative."""
    (x0, y0), (x1, y1) = points[:2]
    return max(0.0, y0 - x0 * (y1 - y0) / (x1 - x0))


def _slope(points: Sequence[Point]) -> float:
    """Return the slope of the least-squares line."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    across = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / across
