"""Owns what the checker knows: a run's artefacts read back, by message, and which of them a data loss excuses."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from shared import events as ev
from shared.ids import MessageRef
from tests.chaos.records import (
    Ack,
    Act,
    Conn,
    Fault,
    FinalLog,
    Life,
    Loss,
    Probe,
    Rest,
    Sample,
    Setup,
    Start,
    read_lines,
    read_records,
)

Place = tuple[str, str]
"""Chat and message."""
TERMINAL = ("done", "failed", "aborted")


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    invariant: str
    where: str
    what: str


@dataclass(slots=True)
class Log:
    """A final log. `by_seq` is what readers must have seen."""

    final: FinalLog
    entries: list[tuple[int, int, str]]
    """Epoch, seq, payload."""
    sums: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By seq: epoch and checksum."""

    @property
    def state(self) -> str:
        return self.final.meta.get("st", "")

    @property
    def events(self) -> list[ev.Event]:
        return [ev.decode_event(raw.encode()) for _, _, raw in self.entries]


class Call(msgspec.Struct):
    """One upstream call, from the model's own request log."""

    id: int
    api: str
    received_at: float
    message: str | None = None
    attempt: str | None = None
    key: str = ""
    call: int = 0
    tokens_sent: int = 0
    background: bool = False
    response_id: str = ""
    ended_at: float | None = None
    outcome: str | None = None


@dataclass(slots=True)
class World:
    """Everything a run left behind."""

    conns: list[Conn] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    samples: dict[tuple[str, int], Sample] = field(default_factory=dict)
    logs: dict[Place, Log] = field(default_factory=dict)
    acks: dict[Place, list[Ack]] = field(default_factory=lambda: defaultdict(list))
    calls: dict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    """By message id."""
    named: set[str] = field(default_factory=set)
    """The runs upstream whose names stand in a log."""
    rest: Rest = field(default_factory=Rest)
    prompts: dict[Place, Start] = field(default_factory=dict)
    lease_s: float = 2.0

    def lossy(self, *times: float, slack_s: float = 0.0) -> bool:
        """Whether any of these moments lies where acknowledged writes may have been lost."""
        return any(loss.began - slack_s <= time <= loss.ended + slack_s for time in times for loss in self.losses)

    def lossy_span(self, began: float, ended: float) -> bool:
        """Whether a span touches such a time."""
        return any(began <= loss.ended and ended >= loss.began for loss in self.losses)

    def stalled_s(self, began: float, ended: float) -> float:
        """Return for how long the machine itself stood still in this span (a second either side is not part of it)."""
        stalls = [f for f in self.faults if f.kind == "stall" and f.began <= ended and f.healed >= began]
        return sum(fault.healed - fault.began - 2 for fault in stalls)

    def deleted(self, place: Place) -> bool:
        """Whether somebody asked to delete it."""
        return any(act.what == "delete" and (act.chat, act.message) == place for act in self.acts)


def load(out: Path) -> World:
    """Read a run's artefacts."""
    world = World()
    lists: dict[type, list[Any]] = {
        Conn: world.conns,
        Start: world.starts,
        Act: world.acts,
        Probe: world.probes,
        Fault: world.faults,
        Loss: world.losses,
        Life: world.lives,
    }
    for record in read_records(out / "history.jsonl"):
        if isinstance(record, Sample):
            world.samples[record.name, record.life] = record
        elif isinstance(record, Setup):
            world.lease_s = record.lease_ms / 1000
        else:
            lists[type(record)].append(record)
    for start in world.starts:
        if start.accepted:
            world.prompts[start.chat, start.message] = start
    for final in read_lines(out / "logs.jsonl", FinalLog):
        log = world.logs[final.chat, final.message] = log_of(final)
        world.named |= {event.id for event in log.events if isinstance(event, ev.Upstream)}
    for path in sorted((out / "acks").glob("*.jsonl")):
        for ack in read_lines(path, Ack):
            ref = MessageRef.parse_member(ack.message)
            ack.worker = path.stem
            world.acks[ref.chat_id, ref.message_id].append(ack)
    _read_calls(world, read_lines(out / "upstream.jsonl", Call))
    world.rest = msgspec.json.decode((out / "rest.json").read_bytes(), type=Rest)
    return world


def log_of(final: FinalLog) -> Log:
    """Read a final log."""
    entries = []
    for ident, raw in final.entries:
        epoch, _, seq = ident.partition("-")
        entries.append((int(epoch), int(seq), raw))
    sums = {seq: (epoch, zlib.crc32(raw.encode())) for epoch, seq, raw in entries}
    return Log(final, entries, sums)


def _read_calls(world: World, lines: Iterable[Call]) -> None:
    calls: dict[int, Call] = {}
    for call in lines:
        calls[call.id] = call  # the line of its end comes second
    for call in calls.values():
        world.calls[call.message or call.key].append(call)
