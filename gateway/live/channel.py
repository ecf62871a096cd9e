"""Owns the live end of one wire of one message: entries encoded once, joined once a turn, handed to every viewer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.live.batch import Batch
from gateway.live.follower import Follower
from gateway.live.transport import Transport, chunk, push_to_all
from gateway.protocols.base import Encoder, Over, Wire
from shared.log.types import Entry

log = logging.getLogger(__name__)


class _Room(NamedTuple):
    """A channel's viewers: those who have a seat, with it, and those who take for themselves."""

    seated: tuple[Follower, ...]
    seats: tuple[Transport, ...]
    standing: tuple[Follower, ...]


class Channel:
    """The viewers of one wire of one message, and the encoder that stands at the tail's position.

    What comes within one turn of the loop is joined here, once for all viewers, and handed out at the turn's end: to
    each viewer that is one write, however many events there were, and no work for an event of its own.

    A viewer whose socket may be written to at once has a seat: the channel writes for it, and since such a viewer has
    everything that was handed out, `at`, `count` and `written` hold for it as well. Others `take` each batch.
    """

    __slots__ = (
        *("_bound", "_pending", "_room", "_schedule", "_viewers"),
        *("at", "count", "encoder", "wire", "written"),
    )

    def __init__(
        self, wire: Wire, encoder: Encoder, schedule: Callable[[Channel], None], *, at: bytes, bound: int
    ) -> None:
        """`schedule` has `flush` called at the end of this turn of the loop; `at`: the id of the tail's position;
        `bound`: how many bytes may wait for a socket with a seat.
        """
        self.wire = wire
        self.encoder = encoder
        self.at = at
        """The id of the last entry that was handed out."""
        self.count = 0
        """How many events were."""
        self.written = 0.0
        """When that was, by the loop's clock."""
        self._bound = bound
        self._viewers: dict[Follower, Transport | None] = {}
        """With their seats."""
        self._room: _Room | None = None
        """`_viewers` as `_arrange` sorts them; None since one came or left, which is far rarer than a batch."""
        self._schedule = schedule
        self._pending: list[Batch] = []

    def add(self, viewer: Follower) -> None:
        """Have a viewer, which has what was handed out so far, get whatever comes from now on."""
        self._viewers[viewer] = viewer.sit(self)
        self._room = None

    def discard(self, viewer: Follower) -> bool:
        """Forget a viewer; return whether there still are others."""
        self._viewers.pop(viewer, None)
        self._room = None
        return bool(self._viewers)

    def __len__(self) -> int:
        """How many viewers it has."""
        return len(self._viewers)

    def clear(self) -> None:
        """Forget all viewers, and what they have not been handed."""
        self._viewers.clear()
        self._pending.clear()
        self._room = None

    def feed(self, entries: Sequence[Entry]) -> None:
        """Take entries that follow on those before."""
        encode = self.encoder.encode
        self._put(Batch.of([block for entry in entries for block in encode(entry)], entries[-1]))

    def feed_raw(self, entry_id: bytes, raw: bytes, is_end: bool) -> None:
        """Take one entry, the terminal one or not, as it was published: for wires that need not know what it says."""
        frame = self.wire.frame
        if frame is None:
            self.feed((Entry.from_redis(entry_id, raw),))
        else:
            self._put(Batch(frame(entry_id, raw), 1, entry_id, "ended" if is_end else None))

    def _put(self, batch: Batch) -> None:
        if not self._pending:
            self._schedule(self)
        self._pending.append(batch)

    def flush(self, now: float) -> None:
        """Hand out what has come, joined."""
        pending = self._pending
        if not pending:
            return
        batch = pending[0] if len(pending) == 1 else Batch.joined(pending)
        pending.clear()
        seated, seats, standing = self._room or self._arrange()
        if seats and batch.frames:
            for index in push_to_all(seats, chunk(batch.frames), self._bound):
                seated[index].fall_behind()  # behind the channel's position, which has not moved yet
        self.at = batch.last
        self.count += batch.count
        self.written = now
        if standing:
            self._to_standing(standing, batch, now)
        if batch.over:
            self._end(seated, batch.over)

    def _arrange(self) -> _Room:
        seated = {viewer: seat for viewer, seat in self._viewers.items() if seat is not None}
        standing = tuple(viewer for viewer in self._viewers if viewer not in seated)
        self._room = _Room(tuple(seated), tuple(seated.values()), standing)
        return self._room

    def _to_standing(self, viewers: Sequence[Follower], batch: Batch, now: float) -> None:
        for viewer in viewers:
            try:
                viewer.take(batch, now)
            except Exception:  # one viewer's broken connection must not cost another's bytes
                log.exception("write to a viewer failed")
                viewer.stop("broken")
                continue
            if viewer in self._viewers and (seat := viewer.sit(self)) is not None:
                self._viewers[viewer], self._room = seat, None

    def _end(self, seated: Sequence[Follower], over: Over) -> None:
        """End the viewers that have this batch: nothing of later ones is for them."""
        for viewer in seated:
            if viewer in self._viewers:
                self._viewers[viewer], self._room = None, None
                viewer.end(over)
