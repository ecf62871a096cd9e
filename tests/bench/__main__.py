"""Races the product against its peers and writes RESULTS.md: `make bench`, about ten minutes at three rounds.

    python -m tests.bench [--rounds N] [--only live,idle,...]

Contenders take turns within a round (A B C A B C ...), so that a slow phase of the machine meets all of them; what
counts are ratios of medians. Runs in which others had too much of the measured core are repeated once, and then left
out where there are better ones.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from tests.bench import report, rig, road, scenarios, snapshots, workers
from tests.bench.contenders import CONTENDERS, Contender
from tests.bench.report import Goal, Table
from tests.bench.scenarios import DISTURBED, Row

Run = Callable[[Contender], Row]
PEERS = ("node_raw", "resumable", "nchan_mem", "naive_py")


def race(title: str, names: Sequence[str], run: Run, rounds: int) -> Table:
    """Run every contender once a round and return the medians."""
    rows: dict[str, list[Row]] = {name: [] for name in names if CONTENDERS[name].here()}
    for number in range(rounds):
        for name, mine in rows.items():
            row = run(CONTENDERS[name])
            if row.foreign > DISTURBED and number == rounds - 1 and all(each.foreign > DISTURBED for each in mine):
                row = run(CONTENDERS[name])
            mine.append(row)
            print(f"{title}: {name} {_short(row)}", flush=True)
    return Table(title, {name: _median(mine) for name, mine in rows.items()}, rounds)


def _short(row: Row) -> str:
    values = " ".join(f"{name}={value:.3g}" for name, value in row.values.items())
    return f"{values} faults={row.faults} foreign={row.foreign:.0%}"


def _median(rows: list[Row]) -> Row:
    good = [row for row in rows if row.foreign <= DISTURBED] or rows
    values = {name: statistics.median(row.values[name] for row in good) for name in rows[0].values}
    return Row(values, sum(row.faults for row in rows), statistics.median(row.foreign for row in good))


KNEES = {"tailrace": 1000, "node_raw": 1000, "nchan_mem": 1000, "resumable": 200}
"""Whose knee is looked for, and where the search begins."""
STEP = 1.35


def knee(name: str, first: int) -> int:
    """Return the most viewers that are still served well: in steps, then once more half a step behind the last."""
    best, viewers = 0, float(first)
    while viewers < 9000 and _holds(name, int(viewers)):
        best, viewers = int(viewers), viewers * STEP
    half = int(best * STEP**0.5)
    return half if half and _holds(name, half) else best


def _holds(name: str, viewers: int, rate: int = 20) -> bool:
    """Return whether viewers, each of its own stream, get 98.5 % of their events with p99 under 100 ms."""
    row = max(
        (scenarios.live(CONTENDERS[name], viewers, viewers, rate, 3.0, 1.0) for _ in range(2)),
        key=lambda each: each.values["delivered"] - each.values["p99_ms"] / 1e4,
    )
    print(f"knee: {name} {viewers} {_short(row)}", flush=True)
    return row.values["p99_ms"] < 100 and row.values["delivered"] >= 0.985 and not row.faults


def gateway_tables(rounds: int, only: set[str]) -> Iterator[Table]:
    """Run what concerns gateways, table by table."""
    live, catch_up = scenarios.live, scenarios.catch_up
    mine = ("tailrace", *PEERS)
    planned: list[tuple[str, str, tuple[str, ...], Run, int]] = [
        ("live", "1000 streams x 20/s", mine, lambda c: live(c, 1000, 1000, 20), rounds),
        ("asgi", "the same without direct writes", ("tailrace", "tailrace_asgi"), lambda c: live(c, 1000, 1000, 20), 1),
        ("fan", "1 stream x 50/s to 1000", mine, lambda c: live(c, 1000, 1, 50), rounds),
        ("one", "5000 events to 1", (*mine, "node"), lambda c: catch_up(c, 1, 5000), rounds),
        ("many", "5000 events to 200", (*mine, "node"), lambda c: catch_up(c, 200, 5000), rounds),
        ("idle", "5000 idle", ("tailrace", "node", *PEERS[1:]), lambda c: scenarios.idle(c, 5000), 1),
        ("join", "500 join mid-stream", mine, lambda c: scenarios.join(c, 500, 20), 1),
        ("resume", "50 resume at 2500 of 5000", ("tailrace", "node_raw", "naive_py"),
         lambda c: scenarios.resume(c, 50, 5000, 2500), 1),
        ("wide", "4000 streams x 20/s", ("tailrace", "node_raw"), lambda c: live(c, 4000, 4000, 20), 1),
    ]  # fmt: skip
    for key, title, names, run, times in planned:
        if not only or key in only:
            yield race(title, names, run, times)


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    rig.take_priority()
    rig.leave_network()
    began = time.monotonic()
    tables: list[Table] = []
    knees: dict[str, int] = {}
    more: list[Goal] = []

    def save() -> str:  # after each part, so that an interrupted run leaves what it has
        found = [*report.goals(tables, knees), *more]
        return report.write(tables, knees, found, time.monotonic() - began, partly=options.only)

    for table in gateway_tables(options.rounds, only):
        tables.append(table)
        save()
    if not only or "worker" in only:
        for generations in (100, 400):
            ours, naive = workers.race(generations, options.rounds)
            more.append(Goal(f"worker, {generations} generations: CPU a token against the naive", 0.16, ours / naive))
            more.append(Goal(f"worker, {generations} generations: CPU-s per 100k tokens", 5, ours))
            save()
    if not only or "snapshot" in only:
        more += snapshots.goals(snapshots.compare())
    if not only or "road" in only:
        more += report.road_goals(road.first_tokens(), road.under_way(), road.one_more())
    if not only or "knee" in only:
        for name, first in KNEES.items():
            if CONTENDERS[name].here():
                knees[name] = knee(name, first)
    print(save())


if __name__ == "__main__":
    main()
