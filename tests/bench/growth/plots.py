"""Owns the pictures: one PNG a figure, CPU on the left, memory on the right, both axes logarithmic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.ticker import LogLocator

from tests.bench.growth.scene import Curve, Figure, Panel, Results

COLOURS = ("#1f6fb4", "#d9541e", "#2a8f5b", "#8a56ac", "#b08a00", "#5d6b78")
MARKS = "osD^vP"
LEAST_MB = 0.1
"""Less than this is noise; drawn as this."""


def draw(figure: Figure, results: Results, folder: Path) -> Path | None:
    """Draw a figure into `<folder>/<name>.png`; return the path, None if there is nothing to draw."""
    if not any(curve.points(results) for curve in figure.curves):
        return None
    mpl.use("Agg")
    from matplotlib import pyplot  # only once the backend is chosen

    picture, panels = pyplot.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    picture.suptitle(figure.title, fontsize=13)
    _panel(panels[0], figure, "cpu", figure.cpu_label, results)
    _panel(panels[1], figure, "memory", figure.memory_label, results)
    path = folder / f"{figure.name}.png"
    picture.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(picture)
    return path


def _panel(axes: Any, figure: Figure, panel: Panel, label: str, results: Results) -> None:
    curves = [curve for curve in figure.curves if curve.panel == panel and curve.points(results)]
    for curve, colour, mark in zip(curves, COLOURS, MARKS, strict=False):
        xs, ys = zip(*_drawn(curve, results), strict=True)
        axes.plot(xs, ys, color=colour, marker=mark, markersize=5, linewidth=1.6, label=_label(curve, results))
    _guide(axes, [_drawn(curve, results) for curve in curves])
    axes.set(xscale="log", yscale="log", xlabel=figure.x_label, ylabel=label)
    axes.set_xticks(sorted({x for curve in curves for x, _ in curve.points(results)}))
    axes.xaxis.set_major_formatter(lambda x, _: _short(x))
    axes.grid(True, color="#e3e6e8", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    # Above the lines, not over them: room is made for it.
    low, high = axes.get_ylim()
    high *= (high / low) ** (0.12 + 0.075 * len(curves))
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 1000 * low else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda y, _: _short(y))
    axes.minorticks_off()
    axes.legend(fontsize=8.5, loc="upper left", frameon=False)


def _drawn(curve: Curve, results: Results) -> list[tuple[float, float]]:
    """Return the points to draw: memory without that of the idle process, which would hide how it grows."""
    if curve.panel == "cpu":
        return curve.points(results)
    rest = curve.rest(results) or 0.0
    return [(x, max(y - rest, LEAST_MB)) for x, y in curve.points(results)]


def _guide(axes: Any, lines: list[list[tuple[float, float]]]) -> None:
    """Draw what linear growth looks like, through the highest point, as far down as the curves go."""
    if not lines:
        return
    x, y = max((line[-1] for line in lines), key=lambda point: point[1])
    lowest = min(value for line in lines for _, value in line)
    start = max(min(line[0][0] for line in lines), x * lowest / y)
    axes.plot([start, x], [y * start / x, y], color="#9aa3aa", linestyle=(0, (4, 3)), linewidth=1, label="linear")


def _label(curve: Curve, results: Results) -> str:
    verdict, rest = curve.verdict(results), curve.rest(results)
    idle = f" (idle: {rest:.0f} MB)" if curve.panel == "memory" and rest else ""
    if verdict is None:
        return curve.label + idle
    return f"{curve.label}{idle}: {'flat' if verdict.slope is None else f'slope {verdict.slope:.2f}'}"


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    if value >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:g}"
