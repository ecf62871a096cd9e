"""Owns what must hold beside the logs: I9 and I12 (nothing left lying about), I10 (upstream), I11 (other tenants)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.check.world import Call, Place, Violation, World
from tests.chaos.fleet import PEAK, RSS
from tests.chaos.records import Ack, Act

STOP_S = 1.0
"""What a stopped message may cost upstream beyond the answer to the stop."""
FENCE_S = 2.0
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


def check_upstream(world: World) -> Iterator[Violation]:
    """I10: no more calls than claims; none open for long after a stop or a fence."""
    places = {message: (chat, message) for chat, message in world.logs}
    for message, calls in world.calls.items():
        place = places.get(message)
        if place is None:
            continue
        claims = [ack for ack in world.acks[place] if ack.op == "claim"]
        # Calls that failed before their first token are repeated within an attempt.
        made = [call for call in calls if call.api in ("chat", "responses") and not _failed(call)]
        undisturbed = not world.disturbed(min(c.received_at for c in calls), max(c.received_at for c in calls) + 5)
        if len(made) > len(claims) and undisturbed:
            yield Violation("I10", message, f"{len(made)} upstream calls for {len(claims)} claims")
        yield from _left_open(world, place, calls, claims)
    for act in world.acts:
        if act.accepted and act.what in ("stop", "replace"):
            yield from _stopped(world, act, world.calls.get(act.message, []))


def _failed(call: Call) -> bool:
    return call.outcome is not None and call.outcome.startswith(("refused", "fault"))


def _left_open(world: World, place: Place, calls: list[Call], claims: list[Ack]) -> Iterator[Violation]:
    for call in calls:
        if call.background:
            continue  # it goes on by itself; the next attempt attaches to it
        if call.ended_at is None:
            yield Violation("I10", place[1], f"upstream call {call.id} is open at rest")
            continue
        later = [claim for claim in claims if claim.sent > call.received_at + 0.2 and claim.replied < call.ended_at]
        for claim in later:
            until = max([claim.replied, *_asleep(world, call, claim.replied)])
            if call.ended_at > until + FENCE_S:
                what = f"upstream call {call.id} went on for {call.ended_at - claim.replied:.1f} s after a later claim"
                yield Violation("I10", place[1], what)
                return


def _asleep(world: World, call: Call, at: float) -> list[float]:
    """Return when whoever stood still at that moment was woken: it could not close anything before."""
    return [fault.healed for fault in world.faults if fault.kind == "freeze" and fault.began <= at <= fault.healed + 1]


def _stopped(world: World, act: Act, calls: list[Call]) -> Iterator[Violation]:
    for call in calls:
        ended = call.ended_at if call.ended_at is not None else float("inf")
        if call.received_at < act.accepted and ended > act.accepted + STOP_S:
            if not world.disturbed(act.began - 10, act.accepted + 1):
                what = f"upstream call {call.id} went on for {ended - act.accepted:.1f} s after the {act.what}"
                yield Violation("I10", act.message, what)
