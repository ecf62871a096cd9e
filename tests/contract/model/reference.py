"""The log in plain Python, one chat of it: what every operation must reply and leave behind.

It is written from PROTOCOL.md, not from the scripts. Epochs are the server's to choose: a new one stands as None
until the machine has looked it up and found it greater than all before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.log.types import Ending

TERMINAL = ("done", "failed", "aborted", "deleted")


@dataclass
class Line:
    """One entry; `epoch` is None until it is known."""

    epoch: int | None
    seq: int
    payload: bytes


@dataclass
class Record:
    """One message."""

    state: str
    policy: str
    body_hash: str
    known: int = 1
    """An entry that is or was there, as the record has it: what EXTEND adds, the stream alone knows."""
    epoch: int | None = None
    token: str = ""
    leased: bool = False
    attempts: int = 0
    handed_back: int = 0
    stop: str | None = None
    decided: str | None = None
    finisher: str = ""
    lines: list[Line] | None = None  # None: the stream is lost or deleted
    decided_ending: Ending | None = None
    final: bytes | None = None
    segments: list[bytes] = field(default_factory=list)
    started: int = 0
    """Epoch of entry 1: the order in which a chat's messages began."""

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def seq(self) -> int:
        """The last entry, as far as Redis can know."""
        return self.lines[-1].seq if self.lines else self.known

    def write(self, epoch: int | None, payload: bytes) -> None:
        """Add an entry behind the last one."""
        assert self.lines is not None
        self.lines.append(Line(epoch, self.seq + 1, payload))
        self.known = self.seq


@dataclass
class Seen:
    """What a reaper or a stop saw of a message before it forces the end."""

    epoch: int | None
    attempts: int
    seq: int


@dataclass
class Claim:
    """An owner's proof and memory, as far as the reference needs it."""

    message: str
    token: str
    epoch: int
    attempt: int
    policy: str
    body_hash: str
    started: int
    lines: list[Line] = field(default_factory=list)


@dataclass
class Reference:
    """One chat: its messages, its active pointer, those in flight from the oldest to the youngest, its tombstones."""

    records: dict[str, Record] = field(default_factory=dict)
    active: str | None = None
    in_flight: list[str] = field(default_factory=list)
    tombs: set[str] = field(default_factory=set)

    # -- who may begin

    def create(self, name: str, body_hash: str, policy: str, first: bytes, most: int) -> str:
        record = self.records.get(name)
        if record is not None:
            return "exists" if record.state != "deleted" and record.body_hash == body_hash else "conflict"
        if name in self.tombs:
            return "conflict"
        if policy == "parallel":
            if len(self.in_flight) >= most:
                return "full"
        elif self.active is not None:
            other = self.records[self.active]
            if policy == "single":
                return "busy"
            other.stop = other.stop or "replaced"
        self.records[name] = Record("queued", policy, body_hash, lines=[Line(None, 1, first)])
        self.active = name
        self.in_flight.append(name)
        return "created"

    def claim(self, name: str, token: str, seen: int, most: int, marker: bytes) -> str:
        record = self.records.get(name)
        if record is None:
            return "gone"
        if record.terminal:
            return "final"
        if record.state == "running" and record.token == token:
            return "ok"
        refusal = self._refusal(record, seen, most)
        if refusal:
            return refusal
        record.write(None, marker)
        record.state, record.token, record.leased, record.epoch = "running", token, True, None
        record.attempts += 1
        return "ok"

    @staticmethod
    def _refusal(record: Record, seen: int, most: int) -> str:
        if record.state == "running" and record.leased:
            return "busy"
        if record.decided:
            return "decided"
        if record.stop:
            return "stopped"
        if record.attempts >= most:
            return "exhausted"
        if record.attempts != seen:
            return "moved"
        return "lost" if record.lines is None else ""

    # -- what the owner does

    def _owned(self, claim: Claim) -> Record | str:
        record = self.records.get(claim.message)
        if record is None:
            return "gone"
        if record.state != "running" or (record.token, record.epoch) != (claim.token, claim.epoch):
            return "fenced"
        return record

    def append(self, claim: Claim, first: int, payloads: list[bytes]) -> str:
        record = self.records.get(claim.message)
        if record is not None and record.terminal:
            return "final"
        owned = self._owned(claim)
        if isinstance(owned, str):
            return owned
        if owned.lines is None:
            return "lost"
        if first > owned.seq + 1:
            return "gap"
        self._write(owned, claim.epoch, first, payloads)
        owned.leased = True
        return "ok"

    def extend(self, claim: Claim, last: int, payloads: list[bytes]) -> str:
        """Nobody looks at the record: an id that is not above the last one is refused, and that is all."""
        record = self.records.get(claim.message)
        if record is None or record.lines is None:
            return "unsure"
        reply = "ok"
        for seq, payload in enumerate(payloads, last + 1):
            top = record.lines[-1]
            assert top.epoch is not None
            if (claim.epoch, seq) > (top.epoch, top.seq):
                record.lines.append(Line(claim.epoch, seq, payload))
            else:
                reply = "unsure"
        return reply

    def checkpoint(self, claim: Claim, number: int, last: int, segment: bytes) -> str:
        record = self.records.get(claim.message)
        if record is not None and record.terminal:
            return "final"
        owned = self._owned(claim)
        if isinstance(owned, str):
            return owned
        if owned.lines is None:
            return "lost"
        if number > len(owned.segments) or last > owned.seq:
            return "gap"
        owned.segments[number:] = [segment]
        return "ok"

    @staticmethod
    def _write(record: Record, epoch: int | None, first: int, payloads: list[bytes]) -> None:
        for seq, payload in enumerate(payloads, first):
            if seq > record.seq:
                record.write(epoch, payload)
        record.known = record.seq

    def decide(self, claim: Claim, ending: Ending) -> str:
        record = self.records.get(claim.message)
        if record is not None and record.terminal:
            return "final"
        owned = self._owned(claim)
        if isinstance(owned, str):
            return owned
        if owned.decided is None:
            owned.decided, owned.decided_ending = ending.state, ending
        return f"ok {owned.decided}"

    def finish(self, claim: Claim, first: int, payloads: list[bytes], ending: Ending) -> str:
        record = self.records.get(claim.message)
        if record is not None and record.terminal and record.finisher == claim.token:
            return f"ok {record.state}"
        owned = self._owned(claim)
        if isinstance(owned, str):
            return owned
        if owned.lines is None:
            return "lost"
        if first > owned.seq + 1:
            return "gap"
        self._write(owned, claim.epoch, first, payloads)
        owned.finisher = claim.token
        self._end(claim.message, owned, claim.epoch, ending)
        return f"ok {owned.state}"

    def release(self, claim: Claim, most_refunds: int) -> str:
        owned = self._owned(claim)
        if isinstance(owned, str):
            return owned
        owned.state, owned.token, owned.leased = "queued", "", False
        owned.handed_back += 1
        owned.attempts -= owned.handed_back <= most_refunds
        return "ok"

    # -- what ends a message

    def _end(self, name: str, record: Record, epoch: int | None, ending: Ending) -> None:
        ending = record.decided_ending or ending
        record.write(epoch, ending.end)
        record.state, record.token, record.leased, record.final = ending.state, "", False, ending.final
        self._settle(name)

    def _settle(self, name: str) -> None:
        if name in self.in_flight:
            self.in_flight.remove(name)
        if self.active == name:
            self.active = self.in_flight[-1] if self.in_flight else None
        self.tombs.add(name)

    def force(self, name: str, seen: Seen, ending: Ending) -> str:
        record = self.records.get(name)
        if record is None:
            return "gone"
        if record.terminal:
            return "final"
        moved = (record.epoch, record.attempts, record.seq) != (seen.epoch, seen.attempts, seen.seq)
        moved = moved or bool(record.stop and not record.decided and ending.state != "aborted")
        if moved or (record.state == "running" and record.leased):
            return "moved"
        if record.lines is None:
            record.lines = []
        record.epoch = None
        self._end(name, record, None, ending)
        return f"ok {record.state}"

    def stop(self, name: str, reason: str) -> str:
        record = self.records.get(name)
        if record is None:
            return "gone"
        if record.terminal:
            return "final"
        record.stop = record.stop or reason
        return "stopping" if record.state == "running" and record.leased else "ownerless"

    def delete(self, name: str) -> bool:
        record = self.records.get(name)
        if record is None or record.state == "deleted":
            return False
        record.state, record.token, record.leased, record.stop = "deleted", "", False, "deleted"
        record.decided, record.lines, record.final, record.segments = None, None, None, []
        self._settle(name)
        return True

    # -- what is lost and comes back

    def restore(self, claim: Claim) -> str:
        record = self.records.get(claim.message)
        if record is not None:
            if record.terminal:
                return "final"
            mine = (record.epoch, record.token) == (claim.epoch, claim.token)
            if mine and record.lines is not None:
                return "ok"
            if not mine and record.epoch is not None and record.epoch >= claim.epoch:
                return "fenced"
        elif claim.message in self.tombs:
            return "final"
        takes_over = True
        if self.active not in (None, claim.message):
            assert self.active is not None
            other = self.records[self.active]
            younger = claim.started > other.started
            allowed = claim.policy if younger else other.policy
            if record is None and allowed != "parallel" and not (younger and allowed == "replace"):
                return "busy"
            takes_over = younger
            if younger and allowed == "replace":
                other.stop = other.stop or "replaced"
        self._put_back(claim, record)
        if takes_over:
            self.active = claim.message
        return "ok"

    def _put_back(self, claim: Claim, record: Record | None) -> None:
        lines = [Line(line.epoch, line.seq, line.payload) for line in claim.lines]
        self.records[claim.message] = Record(
            "running", claim.policy, claim.body_hash, lines[-1].seq, claim.epoch, claim.token, True, claim.attempt,
            stop=record.stop if record else None, lines=lines, started=claim.started,
        )  # fmt: skip
        self.in_flight = [name for name in self.in_flight if name != claim.message]
        self.in_flight.append(claim.message)
        self.in_flight.sort(key=lambda name: self.records[name].started)

    def lapse(self, name: str) -> None:
        """The time that the lease would take has passed."""
        if name in self.records and self.records[name].state == "running":
            self.records[name].leased = False

    def lose_stream(self, name: str) -> None:
        record = self.records.get(name)
        if record is not None and not record.terminal:
            record.lines = None
