"""Owns GROWTH.md: the verdict on each curve, its numbers, and what is to be said where growth is not linear."""

from __future__ import annotations

from pathlib import Path

from tests.bench.growth.fit import __doc__ as METHOD
from tests.bench.growth.scene import Curve, Figure, Results

MENDED = """## Found by these curves, and mended

* A busy worker took jobs in ever more slowly; one whose core was full, with two thousand answers under way, took none,
  though slots were free. Each job waited several times for a connection of arq's pool, which lends them one after the
  other, some turns of the loop each. Jobs now go over the pipelined link: 4,000 answers are under way within seconds.
* A message that waited was queued anew by each look of a reaper and of each gateway with a viewer of it: 1,000 waiting
  messages were 1,970 jobs after six seconds, and `TAILRACE_MAX_QUEUE` counted the copies. Now each has one job.
* To take one job out of a long queue, the ids of 320 went to the worker and back. Now Redis looks through it."""


def write(
    path: Path, figures: tuple[Figure, ...], results: Results, machines: list[str], missing: dict[str, str]
) -> str:
    """Write the report and return it; `missing`: scenes that could not run, and why."""
    parts = ["# How cost grows: results of `make bench-growth`", "", *machines, ""]
    assert METHOD is not None
    parts += [METHOD.partition("\n\n")[2].strip().replace("\n", " "), ""]
    parts += ["Up to 1.1 counts as linear. Memory is of whole processes; `a unit`: the curve's rise over its length."]
    bad = [curve for figure in figures for curve in figure.curves if _bad(curve, results)]
    parts += ["", f"**Faster than linear: {', '.join(curve.label for curve in bad) if bad else 'nothing'}.**"]
    faults = sum(values["faults"] for found in results.values() for _, values in found)
    parts += ["", f"Events lost, doubled or out of place, connections failed, in all runs together: {faults:g}."]
    for figure in figures:
        parts += ["", *_section(figure, results, missing)]
    text = "\n".join([*parts, "", MENDED]) + "\n"
    path.write_text(text)
    return text


def _bad(curve: Curve, results: Results) -> bool:
    verdict = curve.verdict(results)
    return verdict is not None and verdict.bad


def _section(figure: Figure, results: Results, missing: dict[str, str]) -> list[str]:
    parts = [f"## {figure.title}", ""]
    for scene in sorted({curve.scene for curve in figure.curves} & set(missing)):
        parts += [f"`{scene}` not run: {missing[scene]}.", ""]
    here = [curve for curve in figure.curves if curve.points(results)]
    if not here:
        return parts[:-1]
    parts += [f"![{figure.title}](growth/{figure.name}.png)", ""]
    xs = sorted({x for curve in here for x, _ in curve.points(results)})
    parts += [f"| {figure.x_label} | {' | '.join(f'{x:,.0f}' for x in xs)} | a unit | slope | |"]
    parts += ["|---" * (len(xs) + 4) + "|"]
    parts += [_row(curve, xs, results) for curve in here]
    notes = [f"* {curve.label} ({_unit(curve)}): {curve.note}" for curve in here if curve.note]
    return [*parts, *([""] if notes else []), *notes]


def _row(curve: Curve, xs: list[float], results: Results) -> str:
    points = dict(curve.points(results))
    values = " | ".join(_short(points[x]) if x in points else "" for x in xs)
    verdict = curve.verdict(results)
    word, slope = (
        ("", "") if verdict is None else (verdict.word, "" if verdict.slope is None else f"{verdict.slope:.2f}")
    )
    return f"| {curve.label}, {_unit(curve)} | {values} | {_each(curve, results)} | {slope} | {word} |"


def _unit(curve: Curve) -> str:
    return "CPU ms" if curve.panel == "cpu" else "MB"


def _each(curve: Curve, results: Results) -> str:
    """Return what one unit of x costs at the top, beyond what there is at rest."""
    (x0, y0), (x1, y1) = curve.points(results)[0], curve.points(results)[-1]
    each = (y1 - y0) / (x1 - x0)
    return f"{1000 * each:.3g} {'us' if curve.panel == 'cpu' else 'kB'}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
