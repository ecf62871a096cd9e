"""The stage of the model check: one chat on a real Redis, the reference beside it, and what must hold after every step.

After each step the whole chat is read back and compared, and these invariants are checked on what was read,
without the reference: seqs without holes and rising ids, no epoch twice in a log, one end entry at most, last and
agreeing with the record, nothing written by whom the fence shut out, no active pointer to an ended message,
and no viewer who ever saw two branches mixed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

from hypothesis import reject
from hypothesis.stateful import RuleBasedStateMachine, invariant

from shared.cursor import Cursor
from shared.fold import joined
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.segments import Segment
from shared.log.so_far import read_so_far
from shared.log.types import (
    Backup,
    Entry,
    Meta,
    Ownership,
    Retention,
)
from shared.redis import resolver
from tests.contract.model.reference import Claim, Reference
from tests.contract.model.viewer import Viewer
from tests.support import log as forms

NAMES = ("one", "two", "three")


@dataclass
class Worker:
    """One try at a message: its proof and its memory."""

    own: Ownership
    claim: Claim
    backup: Backup
    segments: list[Segment] = field(default_factory=list)
    """What it has cut, or found at its claim."""
    state: Any = None
    """How it means to end the message, once it does."""
    acked: int | None = None
    """The last entry, as the server on which it may EXTEND has told it."""


@dataclass
class History:
    """Everything that ever stood in one message's log, on whatever branch."""

    bytes_of: dict[Cursor, bytes] = field(default_factory=dict)
    steps: set[tuple[Cursor | None, Cursor]] = field(default_factory=set)
    last: Cursor | None = None
    """Where the record stood after the step before."""


@dataclass
class Replica:
    """What a failover would keep."""

    failover: forms.Failover
    reference: Reference


class Stage(RuleBasedStateMachine):
    """Up to three messages of one chat, everybody who works on them, and their viewers."""

    url = ""
    replies: ClassVar[Counter[str]] = Counter()
    """How often each operation gave each reply, over all runs of one machine class: what the search has reached."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.link = Link(resolver(self.url), name="model")
        self.log = Log(self.link, Retention())
        self.reference = Reference()
        self.refs = {name: MessageRef("t", "chat", name) for name in NAMES}
        self.viewers = {name: Viewer(self.log, ref) for name, ref in self.refs.items()}
        self.published: dict[str, list[bytes]] = {name: [] for name in NAMES}
        self.listener = Link(resolver(self.url), name="model-listener", on_push=self._on_push)
        self.channels = {log_keys(ref).stream.encode(): name for name, ref in self.refs.items()}
        self.workers: list[Worker] = []
        self.glances: list[Meta] = []
        self.replica: Replica | None = None
        self.granted: dict[str, set[int]] = {name: set() for name in NAMES}
        self.history = {name: History() for name in NAMES}

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def _on_push(self, push: list[Any]) -> None:
        if push[0] == b"message":
            self.published[self.channels[push[1]]].append(push[2])

    async def connect(self) -> None:
        """Begin with nothing."""
        await self.link.open(wait_s=5)
        await self.listener.open(wait_s=5)
        await forms.lose_everything(self.link)
        self.listener.post("SUBSCRIBE", *self.channels)
        await self.listener.call("PING")

    async def leave(self) -> None:
        """Drop the connections."""
        await self.link.close()
        await self.listener.close()

    @invariant()
    def check(self) -> None:
        if self.link.up:
            self.run(self.compare())

    async def compare(self) -> None:
        log, refs = self.log, self.refs
        ref = refs["one"]
        looks = asyncio.gather(
            *(
                asyncio.gather(log.meta(each), log.read_all(each), asyncio.gather(log.tombstone(each), log.final(each)))
                for each in refs.values()
            )
        )
        active, in_flight = await log.active(ref.tenant, ref.chat_id), await log.in_flight(ref.tenant, ref.chat_id)
        for name, (meta, entries, (tomb, final)) in zip(refs, await looks, strict=True):
            self.compare_message(name, meta, entries)
            assert (tomb is not None) == (name in self.reference.tombs)
            assert final == (self.reference.records[name].final if meta is not None else None)
            await self.compare_segments(name, entries)
        assert active == self.reference.active
        assert in_flight == self.reference.in_flight
        assert (active is None) == (in_flight == [])
        assert active is None or not self.reference.records[active].terminal
        await self.listener.call("PING")

    async def compare_segments(self, name: str, entries: list[Entry]) -> None:
        """Besides: what a late reader makes of them is what the log says, whoever has written them."""
        record = self.reference.records.get(name)
        rows = await self.link.call("LRANGE", log_keys(self.refs[name]).segments, 0, -1)
        assert rows == (record.segments if record is not None else [])
        if rows:
            so_far = await read_so_far(self.log, self.refs[name])
            assert list(joined(so_far.events())) == list(joined(entry.event for entry in entries))
            assert so_far.last == (entries[-1] if entries else None)
            self.replies["reader believes" if so_far.segments else "reader does not believe"] += 1

    def compare_message(self, name: str, meta: Meta | None, entries: list[Entry]) -> None:
        record = self.reference.records.get(name)
        assert (meta is None) == (record is None)
        lines = record.lines or [] if record is not None else []
        assert [(each.cursor.seq, each.raw) for each in entries] == [(line.seq, line.payload) for line in lines]
        for entry, line in zip(entries, lines, strict=True):
            if line.epoch is None:
                assert entry.cursor.epoch not in {each.epoch for each in lines if each.seq < line.seq}
                line.epoch = self.grant(name, entry.cursor.epoch)
            assert entry.cursor.epoch == line.epoch
        if meta is None or record is None:
            self.history[name].last = None
            return
        if record.epoch is None:
            record.epoch = lines[-1].epoch
        record.started = record.started or meta.epoch
        assert (meta.state, meta.epoch, meta.seq, meta.attempts) == (
            record.state, record.epoch, record.seq, record.attempts,
        )  # fmt: skip
        assert (meta.leased, meta.stop, meta.decided if not meta.terminal else None) == (
            record.leased, record.stop, record.decided if not record.terminal else None,
        )  # fmt: skip
        self.check_log(name, meta, entries)

    def grant(self, name: str, epoch: int) -> int:
        """Note a new epoch of a message. If a branch that a failover took away had the same, this run shows no more.

        Two claims made from one state within a millisecond, as nobody makes them but we, draw the same random part once
        in a thousand times (PROTOCOL, 9.1). Tokens keep their owners apart then; the reference goes by epochs.
        """
        if epoch in self.granted[name]:
            reject()
        self.granted[name].add(epoch)
        return epoch

    def check_log(self, name: str, meta: Meta, entries: list[Entry]) -> None:
        """The invariants, on what Redis has and nothing else."""
        cursors = [entry.cursor for entry in entries]
        history = self.history[name]
        if entries:
            first = cursors[0].seq
            assert [cursor.seq for cursor in cursors] == list(range(first, first + len(cursors)))
            assert cursors == sorted(set(cursors))
            assert first == 1 or (meta.terminal and len(entries) == 1)
            assert meta.cursor == cursors[-1]
            before = history.last if first > 1 else None
            history.steps |= {(None, cursors[0]), (before, cursors[0]), *pairwise(cursors)}
        assert [entry.is_end for entry in entries] == [
            meta.terminal and number == len(entries) for number in range(1, len(entries) + 1)
        ]
        for entry in entries:
            assert history.bytes_of.setdefault(entry.cursor, entry.raw) == entry.raw
        history.last = meta.cursor

    @invariant()
    def viewers_saw_one_branch(self) -> None:
        for name, viewer in self.viewers.items():
            history = self.history[name]
            cursors = [entry.cursor for entry in viewer.saw]
            assert set(pairwise(cursors)) <= history.steps
            assert not cursors or (None, cursors[0]) in history.steps
            assert all(history.bytes_of[entry.cursor] == entry.raw for entry in viewer.saw)
