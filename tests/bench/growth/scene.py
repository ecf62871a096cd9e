"""Owns the words of this benchmark: a figure is a quantity that grows, a scene what is run, curves what that finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.bench.growth.fit import FEWEST, Point, Verdict, judge
from tests.bench.growth.meter import Values

Panel = Literal["cpu", "memory"]
NOTHING = "0"
Results = dict[str, list[tuple[float, Values]]]
"""What each scene found, by ascending x."""


class NotRun(Exception):
    """Raised by a scene that cannot run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a figure: `key` names it among a scene's values.

    `fixed` names what it is at rest, if that is measured; `NOTHING`, where no unit of x at all costs nothing.
    """

    scene: str
    key: str
    label: str
    panel: Panel
    fixed: str = ""
    note: str = ""
    """Why it grows as it does, where that is not plain."""

    def points(self, results: Results) -> list[Point]:
        """Return its points."""
        return [(x, values[self.key]) for x, values in results.get(self.scene, []) if self.key in values]

    def verdict(self, results: Results) -> Verdict | None:
        """Say how it grows; None if there are too few points."""
        points = self.points(results)
        if len(points) < FEWEST:
            return None
        return judge(points, self.rest(results))

    def rest(self, results: Results) -> float | None:
        """Return what it is at rest; None if that was not measured."""
        if self.fixed in ("", NOTHING):
            return 0.0 if self.fixed else None
        found = [values[self.fixed] for _, values in results[self.scene]]
        return sum(found) / len(found)


@dataclass(frozen=True, slots=True)
class Figure:
    """One picture of two panels. `each` names one unit of x."""

    name: str
    title: str
    x_label: str
    each: str
    cpu_label: str
    curves: tuple[Curve, ...]
    memory_label: str = "resident memory beyond that of the idle process, MB"


@dataclass(frozen=True, slots=True)
class Scene:
    """One measurement at one x, repeated over `points` (`quick`: over fewer)."""

    name: str
    run: Callable[[int, float], Values]
    """Takes x and about how many seconds to measure for, where that is free."""
    points: tuple[int, ...]
    quick: tuple[int, ...]
