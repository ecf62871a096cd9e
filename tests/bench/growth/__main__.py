"""Measures how cost grows and draws it: `make bench-growth`, about eight minutes; ARGS=--quick, about one.

    python -m tests.bench.growth [--only viewers,streams,... or scenes] [--quick] [--draw] [--rounds N]

What is measured goes into growth/curves.json, from which GROWTH.md and the pictures are made (`--draw`: only that), so
that figures can be measured one at a time. A quick run measures fewer points and keeps them under .bench/. The status
is 1 if a curve grows faster than linearly.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.growth import plots, report
from tests.bench.growth.figures import FIGURES, SCENES
from tests.bench.growth.meter import Values
from tests.bench.growth.scene import NotRun, Results, Scene
from tests.bench.report import machine
from tests.bench.rig import BUILD, HERE, leave_network, raise_file_limit, take_priority

SPAN_S, QUICK_S = 4.0, 0.8
"""How long to measure, where that is free."""


@dataclass
class Store:
    """What has been measured so far, in a file."""

    path: Path
    results: Results = field(default_factory=dict)
    machines: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def load(self) -> None:
        """Take up what earlier runs left."""
        if self.path.exists():
            kept = json.loads(self.path.read_text())
            self.machines, self.missing = kept["machines"], kept["missing"]
            self.results = {name: [(x, values) for x, values in rows] for name, rows in kept["results"].items()}

    def save(self) -> None:
        """Write everything down."""
        rows = {
            name: [[x, {key: round(value, 5) for key, value in values.items()}] for x, values in found]
            for name, found in sorted(self.results.items())
        }
        kept = {"machines": self.machines, "missing": self.missing, "results": rows}
        self.path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def measure(scene: Scene, points: tuple[int, ...], span: float, rounds: int) -> list[tuple[float, Values]]:
    """Run a scene at each point; the median of the rounds."""
    found: list[tuple[float, Values]] = []
    for x in points:
        began = time.monotonic()
        runs = [scene.run(x, span) for _ in range(rounds)]
        values = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        values["faults"] = sum(run["faults"] for run in runs)
        found.append((x, values))
        said = " ".join(f"{key}={value:.4g}" for key, value in values.items())
        print(f"{scene.name} {x}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return found


def chosen(only: str) -> list[Scene]:
    """Return the scenes that `only` names, by scene or by figure; all if it is empty."""
    wanted = set(filter(None, only.split(",")))
    of_figures = {curve.scene for figure in FIGURES if figure.name in wanted for curve in figure.curves}
    if unknown := wanted - SCENES.keys() - {figure.name for figure in FIGURES}:
        raise SystemExit(f"no such figure or scene: {', '.join(sorted(unknown))}")
    return [scene for scene in SCENES.values() if not wanted or scene.name in wanted | of_figures]


def run(store: Store, scenes: list[Scene], *, quick: bool, rounds: int) -> None:
    """Measure scenes into the store, which is saved after each."""
    for scene in scenes:
        began = time.monotonic()
        try:
            found = measure(scene, scene.quick if quick else scene.points, QUICK_S if quick else SPAN_S, rounds)
        except NotRun as reason:
            store.results.pop(scene.name, None)
            store.missing[scene.name] = str(reason)
            print(f"{scene.name}: not run: {reason}", flush=True)
        else:
            store.results[scene.name] = found
            store.missing.pop(scene.name, None)
            store.machines[scene.name] = machine(time.monotonic() - began).partition(". Took")[0] + "."
        store.save()


def render(store: Store, folder: Path, text: Path) -> bool:
    """Draw and write; return whether anything grows faster than linearly."""
    for figure in FIGURES:
        plots.draw(figure, store.results, folder)
    report.write(text, FIGURES, store.results, sorted(set(store.machines.values())), store.missing)
    bad = False
    for figure in FIGURES:
        for curve in figure.curves:
            if (verdict := curve.verdict(store.results)) is not None:
                slope = "" if verdict.slope is None else f"{verdict.slope:.2f}"
                print(f"{figure.name:9} {curve.panel:6} {curve.label:52} {slope:>5} {verdict.word}")
                bad = bad or verdict.bad
    return bad


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    take_priority()
    leave_network()
    raise_file_limit()
    folder, text = HERE / "growth", HERE / "GROWTH.md"
    if options.quick:
        folder = BUILD / "growth"
        text = folder / "GROWTH.md"
        folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "curves.json")
    if not options.quick:
        store.load()
    if not options.draw:
        run(store, chosen(options.only), quick=options.quick, rounds=options.rounds)
    return render(store, folder, text)


if __name__ == "__main__":
    sys.exit(main())
