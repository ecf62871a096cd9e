"""Owns the verdict: violations, coverage and durations as a table, and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.chaos.check.clients import check_native
from tests.chaos.check.cost import check_cost
from tests.chaos.check.coverage import ROLLING, count, durations, percentile, server_errors, starts_failed
from tests.chaos.check.logs import check_logs
from tests.chaos.check.rest import check_rest
from tests.chaos.check.said import check_said
from tests.chaos.check.wires import check_wires
from tests.chaos.check.world import Violation, World, load
from tests.chaos.profiles import Profile

PASSED, VIOLATED, VOID = 0, 1, 3
_SHOWN = 20
LAST = 13
"""The number of the last invariant."""


def check(out: Path) -> tuple[World, list[Violation]]:
    """Return a run's artefacts and what is wrong with them."""
    world = load(out)
    checks = (check_logs, check_native, check_wires, check_cost, check_rest)
    return world, [*(violation for look in checks for violation in look(world)), *check_said(out)]


def report(profile: Profile, out: Path, broken: Iterable[str]) -> tuple[int, str]:
    """Return the exit code and the text."""
    world, violations = check(out)
    problems = [*broken]
    lines = ["", "violations by invariant"]
    found = Counter(violation.invariant for violation in violations)
    lines += [f"  I{number:<3} {found.get(f'I{number}', 0)}" for number in range(1, LAST + 1)]
    lines += [f"    {v.invariant} {v.where}: {v.what}" for v in violations[:_SHOWN]]
    lines.append("seen")
    counters = count(world)
    void = []
    for name, value in counters.items():
        floor = profile.floors.get(name)
        short = floor is not None and value < floor
        void += [f"{name} is {value}, below {floor}"] if short else []
        lines.append(
            f"  {name:22} {value}" + ("" if floor is None else f"  (at least {floor})") + (" !" if short else "")
        )
    lines += _timing(profile, world, problems)
    stalls = sum(fault.healed - fault.began - 2 for fault in world.faults if fault.kind == "stall")
    lines.append(f"the machine stood still for {stalls:.1f} s or more; no latency is counted around that")
    errors = server_errors(world)
    lines.append(f"5xx seen by clients: {errors or 'none'}; starts that came to nothing: {starts_failed(world)}")
    problems += [f"5xx in rolling window {n}: {errors[f'window {n}']}" for n in ROLLING if f"window {n}" in errors]
    problems += [f"{life.name} did not end within its grace" for life in world.lives if life.how == "grace"]
    lines += [f"problem: {problem}" for problem in problems] + [f"void: {reason}" for reason in void]
    code = VIOLATED if violations or problems else VOID if void else PASSED
    verdict = {PASSED: "PASSED", VIOLATED: "FAILED", VOID: "VOID: too little happened for this run to count"}[code]
    return code, "\n".join([*lines, verdict])


def _timing(profile: Profile, world: World, problems: list[str]) -> list[str]:
    bounds = {
        "takeover": profile.fleet.lease_ms / 1000 + profile.takeover_s,
        "client resume": profile.resume_s,
        "hand-over": profile.handover_s,
    }
    lines = ["seconds                 p50    p90    p99    max  (count)"]
    for name, values in durations(world).items():
        shares = "  ".join(f"{percentile(values, share):5.2f}" for share in (0.5, 0.9, 0.99, 1.0))
        late = percentile(values, 0.99) > bounds[name]
        lines.append(f"  {name:20} {shares}  ({len(values)})" + (f"  p99 above {bounds[name]:g} s" if late else ""))
        if late and profile.timed:
            problems.append(f"{name} p99 is {percentile(values, 0.99):.2f} s, above {bounds[name]:g}")
    return lines
