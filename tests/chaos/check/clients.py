"""Owns what must hold of the native clients' histories: I5 (no gap, dup or foreign text) and I6 (the same to all)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from shared.fold import fold
from shared.message import Message, encode_message
from tests.chaos.check.excuses import gone, lost
from tests.chaos.check.world import Log, Place, Violation, World
from tests.chaos.records import Conn

NATIVE = ("native", "websocket")
"""The wires that carry the log's own entries and ids."""
REACH_S = 1.5
"""How much later than a loss something of the lost branch may still reach a client."""


@dataclass(slots=True)
class Seen:
    """What one client has of a message: everything since its last beginning."""

    base: int = 0
    """Seq of the snapshot it began with."""
    events: list[tuple[float, int, int, str]] = field(default_factory=list)
    """Time, epoch, seq, payload."""

    @property
    def seq(self) -> int:
        return self.events[-1][2] if self.events else self.base

    @property
    def over(self) -> bool:
        return bool(self.events) and self.events[-1][3].startswith('{"type":"end"')


def by_viewer(world: World, wire: str) -> dict[str, list[Conn]]:
    """Return the connections of each client of a wire, in order."""
    found: dict[str, list[Conn]] = defaultdict(list)
    for conn in sorted(world.conns, key=lambda conn: conn.opened):
        if conn.wire == wire:
            found[conn.viewer].append(conn)
    return found


def check_native(world: World) -> Iterator[Violation]:
    """Yield what is wrong."""
    for wire in NATIVE:
        for name, conns in by_viewer(world, wire).items():
            yield from _viewer(world, name, conns)
    yield from _same_to_all(world)


def _viewer(world: World, name: str, conns: list[Conn]) -> Iterator[Violation]:
    place = (conns[0].chat, conns[0].message)
    log = world.logs.get(place)
    seen, abandoned = Seen(), []
    for conn in conns:
        if conn.status == 204 and not seen.over:
            yield Violation("I5", name, "was told 204 before it had the end")
        for time, ident, raw in conn.events:
            if not ident:
                if '"replay":true' in raw:
                    abandoned.append(seen)
                    seen = Seen()
                continue
            epoch, seq = (int(part) for part in ident.split("-"))
            if raw.startswith('{"type":"snapshot"'):
                seen = Seen(seq)
                yield from _snapshot(world, name, place, seq, raw, time)
                continue
            if seq != seen.seq + 1 or (seen.events and epoch < seen.events[-1][1]):
                yield Violation(
                    "I5", name, f"got {ident} behind {seen.seq} (asked for {conn.asked or 'the beginning'})"
                )
                return
            seen.events.append((time, epoch, seq, raw))
        if conn.ended == "clean" and conn.status == 200 and not seen.over:
            yield Violation("I5", name, "a body ended in order before the end")
    for part in abandoned:
        yield from _against_log(world, name, log, part)
    yield from _against_log(world, name, log, seen)
    yield from _complete(world, name, place, log, seen, conns)


def _snapshot(world: World, name: str, place: Place, seq: int, raw: str, time: float) -> Iterator[Violation]:
    """A snapshot is what the log amounts to there; but for one of a branch that was lost just then."""
    log = world.logs.get(place)
    if log is None or log.state == "deleted" or len(log.entries) < seq or world.lossy(time, slack_s=REACH_S):
        return
    body = msgspec.json.decode(raw)
    message = msgspec.convert(body["message"], Message)
    if encode_message(message) != encode_message(fold(log.events[:seq])):
        yield Violation("I5", name, f"the snapshot at {seq} is not what the log amounts to there")


def _against_log(world: World, name: str, log: Log | None, seen: Seen) -> Iterator[Violation]:
    """What differs from the final log must have come from a branch that a data loss cut off."""
    if log is None or log.state == "deleted":
        return
    final = {seq: (epoch, raw) for epoch, seq, raw in log.entries}
    for time, epoch, seq, raw in seen.events:
        if final.get(seq) != (epoch, raw):
            last = seen.events[-1][0]
            if not any(loss.began - REACH_S <= time and last <= loss.ended + REACH_S for loss in world.losses):
                what = f"{epoch}-{seq} {raw[:60]} is not in the log, which has {str(final.get(seq))[:80]}"
                yield Violation("I5", name, what)
            return


def _complete(
    world: World, name: str, place: Place, log: Log | None, seen: Seen, conns: list[Conn]
) -> Iterator[Violation]:
    """A client that stayed has seen the end; unless it was deleted, or lost with the data for good."""
    if seen.over or world.deleted(place) or (log is not None and log.state == "deleted"):
        return
    last = conns[-1]
    if last.status in (404, 410) and (gone(world, place) if log is None else lost(world, place, 0.0, last.closed)):
        return
    state = "a message that is nowhere" if log is None else log.state
    yield Violation("I8", name, f"never saw the end of {state}; last {last.status} {last.ended} at seq {seen.seq}")


def _same_to_all(world: World) -> Iterator[Violation]:
    """I6: an id stands for the same bytes, whoever sees it and whenever."""
    known: dict[tuple[str, str], str] = {}
    for conn in world.conns:
        if conn.wire not in NATIVE:
            continue
        for _, ident, raw in conn.events:
            if (
                ident
                and not raw.startswith('{"type":"snapshot"')
                and known.setdefault((conn.message, ident), raw) != raw
            ):
                yield Violation("I6", conn.viewer, f"{ident} was {known[conn.message, ident][:60]} and {raw[:60]}")
