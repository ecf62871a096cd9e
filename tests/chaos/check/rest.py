"""Owns what must hold beside the logs: I9 and I12 (nothing left lying about), I11 (other tenants)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.check.world import Violation, World
from tests.chaos.fleet import PEAK, RSS

MORE_FDS = 40
MORE_BYTES = 100e6
MOST_BYTES = 80e6
"""What a process may hold beyond its start, at any moment."""


def check_rest(world: World) -> Iterator[Violation]:
    """Yield what is wrong."""
    rest = world.rest
    for key in rest.active:
        yield Violation("I9", key, "points to something at rest")
    for member in rest.due:
        yield Violation("I12", member, "is overdue at rest")
    if rest.queued:
        yield Violation("I12", "queue", f"{rest.queued} jobs wait at rest")
    for name, held in rest.processes.items():
        yield from _held(name, held, rest.baseline.get(name, {}))
    for sample in world.samples.values():
        if not sample.values.get(PEAK):
            yield Violation("I12", sample.name, "does not tell how much memory it holds")
        before = rest.baseline.get(sample.name, {}).get(RSS, 0.0)
        if before and sample.values.get(PEAK, 0.0) > before + MOST_BYTES:
            yield Violation("I12", sample.name, f"its memory rose from {before:g} to {sample.values[PEAK]:g}")
    for probe in world.probes:
        expected = 404 if probe.what == "other tenant" else 401
        if probe.status not in (0, expected, 503):
            yield Violation("I11", probe.what, f"was answered {probe.status}")


def _held(name: str, held: dict[str, float], before: dict[str, float]) -> Iterator[Violation]:
    for gauge in ("tailrace_slots_used", "tailrace_gateway_viewers", "tailrace_gateway_tails"):
        if held.get(gauge):
            yield Violation("I12", name, f"{gauge} is {held[gauge]:g} at rest")
    if not before:
        return  # it came later
    bounds = (("process_open_fds", MORE_FDS), ("process_resident_memory_bytes", MORE_BYTES))
    for gauge, more in bounds:
        if held.get(gauge, 0) > before.get(gauge, 0) + more:
            yield Violation("I12", name, f"{gauge} went from {before.get(gauge, 0):g} to {held[gauge]:g}")
