"""Owns what a run has seen: the counters that must not be nought, and how long things took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from shared import events as ev
from tests.chaos.check.clients import by_viewer
from tests.chaos.check.cost import judge
from tests.chaos.check.excuses import held
from tests.chaos.check.world import Place, World
from tests.chaos.records import Ack, Conn

ROLLING = (2, 4)


def count(world: World) -> dict[str, int]:
    """Return the coverage counters."""
    values: Counter[str] = Counter()
    for sample in world.samples.values():
        for name, value in sample.values.items():
            values[name] += int(value)
    attempts: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    restarts = 0
    for log in world.logs.values():
        for event in log.events:
            if isinstance(event, ev.Attempt):
                attempts[event.reason] += 1
                modes[event.mode] += 1
            restarts += isinstance(event, ev.Reset)
    native = by_viewer(world, "native")
    judged = Counter(item.kind for item in judge(world) if not item.excuse)
    replays = sum('"replay":true' in raw for conn in world.conns for _, ident, raw in conn.events if not ident)
    return {
        "messages": len(world.logs),
        "connections": len(world.conns),
        "events": sum(len(conn.events) for conn in world.conns),
        "fenced": sum(map(_fenced, world.acks.values())),
        "takeovers": attempts["worker_lost"],
        "hand-overs": sum(1 for _ in _handed_over(world)),
        "released": attempts["drain"],
        "continued": modes["continue"],
        "attached again": modes["reattach"],
        "begun anew": restarts,
        "gap repairs": values["tailrace_gap_repairs_total"],
        "restores": values["tailrace_restores_total"],
        "resets": restarts + replays,
        "replays": replays,
        "redispatched": values['tailrace_reaped_total{action="dispatched"}'],
        "resumed elsewhere": sum(_elsewhere(conns) for conns in native.values()),
        "cut by clients": sum(conn.ended == "cut" for conn in world.conns),
        "broken under clients": sum(conn.ended in ("broken", "timeout") for conn in world.conns),
        "acks lost with data": sum(1 for _ in _lost_acks(world)),
        "repairs judged": sum(held(world, place, loss) for loss in world.losses for place in world.acks),
        "stops judged": judged["stop"],
        "superseded calls seen": judged["superseded"],
        "taken over, judged": judged["taken over"],
        "background, judged": judged["background"],
        "sockets": len(by_viewer(world, "websocket")),
    }


def _fenced(acks: list[Ack]) -> int:
    """Count the owners of a message who were refused because of a later claim; an end or a delete fences nobody."""
    claims = [ack for ack in acks if ack.op == "claim"]
    refused = {ack.epoch: ack.replied for ack in acks if ack.status == "fenced"}
    return sum(any(c.epoch > epoch and c.sent < at for c in claims) for epoch, at in refused.items())


def _handed_over(world: World) -> Iterator[tuple[Place, int]]:
    """Yield message and epoch of releases by workers that had been told to end: who loses Redis releases too."""
    asked = {f"{life.name}.{life.life}": life.asked for life in world.lives if life.asked}
    for place, acks in world.acks.items():
        for ack in acks:
            if ack.op == "release" and ack.status == "ok" and asked.get(ack.worker, ack.sent + 1) <= ack.sent:
                yield place, ack.epoch


def _elsewhere(conns: list[Conn]) -> int:
    served = [conn for conn in conns if conn.status == 200 and conn.events]
    return sum(a.gateway != b.gateway for a, b in pairwise(served))


def _lost_acks(world: World) -> Iterator[Place]:
    for place, acks in world.acks.items():
        log = world.logs.get(place)
        for ack in acks:
            if ack.status == "ok" and log is not None and log.state != "deleted":
                yield from (place for seq, _ in enumerate(ack.sums, ack.first) if seq not in log.sums)


def server_errors(world: World) -> dict[str, int]:
    """Return the 5xx that clients saw, by window."""
    seen: Counter[str] = Counter()
    windows = [fault for fault in world.faults if fault.kind == "window"]
    said = [(conn.head, conn.status) for conn in world.conns]
    said += [item for start in world.starts for item in start.statuses]
    said += [item for act in world.acts for item in act.statuses]
    said += [(probe.at, probe.status) for probe in world.probes]
    for at, status in said:
        if status >= 500:
            inside = [fault.window for fault in windows if fault.began <= at <= fault.healed + 1]
            seen[f"window {inside[0]}" if inside else "between"] += 1
    return dict(sorted(seen.items()))


def starts_failed(world: World) -> int:
    """Return how many starts came to nothing."""
    return sum(not start.accepted for start in world.starts)


def durations(world: World) -> dict[str, list[float]]:
    """Return takeovers, resumes and hand-overs in seconds."""
    takeovers: list[float] = []
    handovers: list[float] = []
    handed_over = set(_handed_over(world))
    for place, log in world.logs.items():
        owners = {ack.epoch: ack.worker for ack in world.acks[place] if ack.op == "claim"}
        events = log.events
        for at, event in enumerate(events):
            if not isinstance(event, ev.Attempt) or event.n < 1 or at == 0:
                continue
            epoch = log.entries[at][0]
            if event.reason == "worker_lost":
                fell = _fell(world, owners.get(log.entries[at - 1][0], ""), epoch / 1e6)
                if fell is not None:
                    takeovers.append(epoch / 1e6 - fell)
            elif (place, log.entries[at - 1][0]) in handed_over:
                handovers += _silence(world, place, log.entries[at][1])
    return {"takeover": takeovers, "hand-over": handovers, "client resume": list(_resumes(world))}


def _fell(world: World, owner: str, claimed: float) -> float | None:
    """Return when the owner before fell, if nothing else was wrong with Redis meanwhile."""
    name, _, number = owner.partition(".")
    moments = [life.ended for life in world.lives if life.name == name and str(life.life) == number and life.ended]
    moments += [
        fault.began for fault in world.faults if fault.kind in ("freeze", "partition") and name in fault.target.split()
    ]
    fell = max((moment for moment in moments if moment <= claimed), default=None)
    if fell is None or any(
        f.kind in ("redis kill", "failover", "slow", "stall") and f.healed > fell - 1 and f.began < claimed
        for f in world.faults
    ):
        return None
    return fell


def _silence(world: World, place: Place, marker: int) -> Iterator[float]:
    """Yield for how long each client that stayed connected saw nothing around a hand-over."""
    for conn in world.conns:
        if (conn.chat, conn.message) != place or conn.wire != "native":
            continue
        seqs = [(time, int(ident.split("-")[1])) for time, ident, _ in conn.events if ident]
        before = [time for time, seq in seqs if seq < marker]
        after = [time for time, seq in seqs if seq > marker]
        if (
            before
            and after
            and not any(
                f.kind in ("failover", "stall") and f.began < after[0] and f.healed > before[-1] for f in world.faults
            )
        ):
            yield after[0] - before[-1]


def _resumes(world: World) -> Iterator[float]:
    """Yield how long each client that lost its stream was without one, faults not counted."""
    faults = [fault for fault in world.faults if fault.kind != "window"]
    for conns in by_viewer(world, "native").values():
        lost = 0.0
        for conn in conns:
            if conn.status == 200:
                if lost:
                    healed = [f.healed for f in faults if f.began <= conn.head and f.healed >= lost]
                    yield max(0.0, conn.head - max([lost, *healed]))
                lost = 0.0
            if conn.status != 204 and not lost:
                lost = conn.closed


def percentile(values: list[float], share: float) -> float:
    """Return a percentile, nan of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
