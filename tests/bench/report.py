"""Owns the benchmark's report: goals held against what was measured, tables, and the machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.bench.rig import HERE, network
from tests.bench.scenarios import Row

RESULTS = HERE / "RESULTS.md"


@dataclass(frozen=True)
class Table:
    """The medians of one scenario."""

    title: str
    rows: dict[str, Row]
    rounds: int


@dataclass(frozen=True)
class Goal:
    """Something that should be at most (or at least) so much."""

    what: str
    goal: float
    found: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.found >= self.goal if self.at_least else self.found <= self.goal


def goals(tables: list[Table], knees: dict[str, int]) -> list[Goal]:
    """Return the goals for the gateway that these tables can tell of."""
    found: list[Goal] = []
    by_title = {table.title: table.rows for table in tables}

    def ratio(title: str, value: str, peer: str, goal: float) -> None:
        rows = by_title.get(title, {})
        if "tailrace" in rows and peer in rows and rows[peer].values[value]:
            share = rows["tailrace"].values[value] / rows[peer].values[value]
            found.append(Goal(f"{title}: {value} against {peer}", goal, share))

    for peer, goal in (("node_raw", 0.85), ("resumable", 0.75), ("nchan_mem", 0.55), ("naive_py", 0.35)):
        ratio("1000 streams x 20/s", "cpu", peer, goal)
    for peer, goal in (("node_raw", 1.0), ("nchan_mem", 0.9), ("resumable", 0.55), ("naive_py", 1.0)):
        ratio("1 stream x 50/s to 1000", "cpu", peer, goal)
    for peer, one, many in (("resumable", 0.6, 0.4), ("node", 0.2, 0.1), ("naive_py", 0.1, 0.02)):
        ratio("5000 events to 1", "last_ms", peer, one)
        ratio("5000 events to 200", "last_ms", peer, many)
    for peer, goal in (("node", 1.0), ("resumable", 0.7), ("naive_py", 0.25)):
        ratio("5000 idle", "kb_per_viewer", peer, goal)
    idle = by_title.get("5000 idle", {}).get("tailrace")
    if idle:
        found.append(Goal("5000 idle: CPU per cent", 1.0, idle.values["idle_cpu_percent"]))
    wide = by_title.get("4000 streams x 20/s", {}).get("tailrace")
    if wide:
        found.append(Goal("4000 streams x 20/s: delivered", 0.995, wide.values["delivered"], at_least=True))
        found.append(Goal("4000 streams x 20/s: p99 ms", 100, wide.values["p99_ms"]))
    for peer, goal in (("node_raw", 1.5), ("nchan_mem", 3.0), ("resumable", 5.0)):
        if knees.get("tailrace") is not None and knees.get(peer):
            found.append(Goal(f"knee at 20/s against {peer}", goal, knees["tailrace"] / knees[peer], at_least=True))
    mine = [table.rows["tailrace"].faults for table in tables if "tailrace" in table.rows]
    found.append(Goal("gaps, doubles, wrong beginnings, failures in all of the product's runs", 0, sum(mine)))
    return found


def road_goals(first: dict[str, float], road: dict[str, float], more_ms: float) -> list[Goal]:
    """Return the goals for the whole road."""
    return [
        Goal("first token: ms more than the model itself (p50)", 15, first["through_ms"] - first["direct_ms"]),
        Goal("creation to claim, idle: ms (p50)", 15, first["claim_ms"]),
        Goal("200 answers x 25/s: p50 ms from the model's write to the viewer", 3, road["p50_ms"]),
        Goal(f"200 answers x 25/s: p99 ms (others had {road['foreign']:.0%} of the core)", 25, road["p99_ms"]),
        Goal("300 answers under way: first token of one more, ms", 1000, more_ms),
    ]


def write(tables: list[Table], knees: dict[str, int], found: list[Goal], took_s: float, *, partly: str) -> str:
    """Write the report down and return it; `partly`: the scenarios that were chosen, if not all."""
    parts = ["# Results of `make bench`", "", machine(took_s), ""]
    parts += [f"**Not the whole benchmark: {partly}.** The rest was not run.", ""] if partly else []
    parts += ["## Goals", ""]
    parts += ["| what | goal | found | |", "|---|---|---|---|"]
    for each in found:
        sign = ">=" if each.at_least else "<="
        parts.append(
            f"| {each.what} | {sign} {each.goal:g} | {each.found:.3g} | {'met' if each.met else '**missed**'} |"
        )
    for table in tables:
        names = list(next(iter(table.rows.values())).values)
        parts += ["", f"## {table.title} (median of {table.rounds})", ""]
        parts += [f"| | {' | '.join(names)} | faults | others |", "|---" * (len(names) + 3) + "|"]
        for name, row in table.rows.items():
            values = " | ".join(f"{row.values[each]:.3g}" for each in names)
            parts.append(f"| {name} | {values} | {row.faults} | {row.foreign:.0%} |")
    if knees:
        parts += ["", "## Knee at 20 events a second and viewer", "", "| | viewers |", "|---|---|"]
        parts += [f"| {name} | {viewers} |" for name, viewers in knees.items()]
    parts += ["", _legend()]
    text = "\n".join(parts) + "\n"
    RESULTS.write_text(text)
    return text


def _legend() -> str:
    return (
        "`cpu`, `redis_cpu`: CPU seconds per 100,000 delivered events. Tailrace's go through its own scripts, those "
        "due in a millisecond together, authentication on; the peers get plain XADD + PUBLISH (Node), XADD (naive), "
        "their own library (resumable) or HTTP posts (Nchan). `others`: share of the measured core that other "
        "processes had."
    )


def machine(took_s: float) -> str:
    """Return what was measured on, and how long it took."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((row.partition(":")[2].strip() for row in info.splitlines() if row.startswith("model name")), "?")
    tools = [_version(*command) for command in (("redis-server", "--version"), ("node", "--version"), ("nginx", "-v"))]
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "httptools", "hiredis", "starlette")
    )
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} x {model}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {packages}; {'; '.join(filter(None, tools))}. "
        f"Over {network()}. Took {took_s / 60:.0f} minutes; load average at the end {os.getloadavg()[0]:.1f}."
    )


def _version(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{command[0]}: {(done.stdout or done.stderr).strip().splitlines()[0][:60]}"
