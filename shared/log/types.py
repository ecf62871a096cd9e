"""Owns the values that go into and come out of the log's operations."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from shared.cursor import Cursor
from shared.events import Event, TerminalState, decode_event
from shared.ids import MessageRef

Policy = Literal["single", "replace", "parallel"]
MetaState = Literal["queued", "running", "done", "failed", "aborted", "deleted"]
TERMINAL: frozenset[str] = frozenset(("done", "failed", "aborted", "deleted"))


END_PREFIX = b'{"type":"end"'
"""How the payload of a terminal entry begins, and of no other; see `shared.events`."""


class Entry(Struct, eq=False, gc=False):
    """One log entry: its cursor and its payload, both read on first need. Not to be changed.

    (Made once for every entry that passes a gateway, and kept by the thousand: a dataclass takes six times as long
    to make, and each one is one more thing for the garbage collector to walk over.)
    """

    _at: Cursor | bytes
    raw: bytes
    _event: Event | None = None

    @classmethod
    def from_redis(cls, entry_id: bytes, raw: bytes) -> Entry:
        """Return the entry of an id as Redis writes it."""
        return cls(entry_id, raw)

    @property
    def cursor(self) -> Cursor:
        at = self._at
        if isinstance(at, bytes):
            at = self._at = Cursor.from_redis(at)
        return at

    @property
    def id(self) -> bytes:
        """The cursor as Redis writes it."""
        return self._at if isinstance(self._at, bytes) else self._at.id

    @property
    def event(self) -> Event:
        event = self._event
        if event is None:
            event = self._event = decode_event(self.raw)
        return event

    @property
    def is_end(self) -> bool:
        """Whether this is the terminal entry; cheaper than decoding."""
        return self.raw.startswith(END_PREFIX)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.cursor == other.cursor and self.raw == other.raw

    def __hash__(self) -> int:
        return hash((self.cursor, self.raw))


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is kept, in milliseconds. `live` is renewed by the owner's heartbeat."""

    live_ms: int = 3_600_000
    replay_ms: int = 3_600_000
    retain_ms: int = 86_400_000
    tombstone_ms: int = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Meta:
    """A message's record, as last read. Times are Unix ms by the server's clock."""

    ref: MessageRef
    state: MetaState
    epoch: int
    seq: int
    attempts: int
    lease_until: int
    worker: str
    stop: str | None
    user: str
    born: int
    deadline: int
    decided: str | None
    drained: bool
    now: int
    told_at: int = 0

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.epoch, self.seq)

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def begun(self) -> bool:
        """Whether a worker has had it, so that somebody may have read a part of it."""
        return self.state != "queued" or self.attempts > 0 or self.drained

    @property
    def told(self) -> bool:
        """Whether somebody has got the end."""
        return self.told_at > 0

    @property
    def leased(self) -> bool:
        """Whether a worker owns it right now."""
        return self.state == "running" and self.lease_until > self.now


@dataclass(frozen=True, slots=True)
class Ownership:
    """Proof that a worker has claimed a message: what every write of the owner must name."""

    ref: MessageRef
    token: str
    epoch: int
    attempt: int
    marker_seq: int


@dataclass(frozen=True, slots=True)
class Created:
    """The message exists now; `cursor` is that of its first entry."""

    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Exists:
    """The same request had created it before."""

    state: MetaState
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was written. `detail` depends on the reason: an id, a state, a number."""

    reason: Literal["conflict", "busy", "full"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The claimer owns the message."""

    ownership: Ownership


@dataclass(frozen=True, slots=True)
class NotClaimed:
    """The claimer does not own it. `stopped`, `expired`, `exhausted`, `decided` and `lost` ask for a FORCE."""

    reason: Literal["busy", "moved", "stopped", "expired", "exhausted", "decided", "lost", "final", "gone"]
    detail: str = ""

    @property
    def needs_force(self) -> bool:
        return self.reason in ("stopped", "expired", "exhausted", "decided", "lost")


class Reply(Struct, frozen=True, gc=False):
    """Outcome of an owner's write. (A struct, since one is made for every append.)

    ok: `seq` is the log's last entry, `stop` the wish to stop if there is one. gap: `seq` is the last entry
    that the log still has; send again from the next. fenced, final, gone: the message is no longer yours;
    a `fenced` whose `epoch` is below yours means that Redis lost your claim: RESTORE, if you may still.
    lost: the stream is gone and the record is not; RESTORE.
    """

    status: Literal["ok", "gap", "fenced", "final", "lost", "gone", "moved", "busy"]
    seq: int = 0
    stop: str = ""
    state: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class StopReply:
    """Outcome of a wish to stop: who must still act. `ownerless` asks the caller to FORCE."""

    status: Literal["stopping", "ownerless", "final", "gone"]
    state: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a message ends: all that FINISH, DECIDE and FORCE write."""

    state: TerminalState
    final: bytes
    end: bytes
    before: tuple[bytes, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Backup:
    """What an owner keeps so that it can RESTORE the record of a message that Redis lost."""

    user: str
    body_hash: str
    request: bytes
    born: int
    deadline: int
    policy: Policy = "single"


def new_token() -> str:
    """Return an owner token; a new one for every try."""
    return secrets.token_hex(12)


def random3() -> int:
    """Return the random part of an epoch."""
    return secrets.randbelow(1000)
