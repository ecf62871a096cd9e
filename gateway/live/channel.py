"""Owns the live end of one wire of one message: entries encoded once, joined once a turn, handed to every viewer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.live.batch import Batch
from gateway.protocols.base import Encoder, Wire
from shared.log.types import END_PREFIX, Entry

if TYPE_CHECKING:
    from gateway.live.viewer import Viewer

log = logging.getLogger(__name__)


class Channel:
    """The viewers of one wire of one message, and the encoder that stands at the tail's position.

    What comes within one turn of the loop is joined here, once for all viewers, and handed out at the turn's end: to
    each viewer that is one write, however many events there were, and no work for an event of its own.
    """

    __slots__ = ("_pending", "_schedule", "encoder", "viewers", "wire")

    def __init__(self, wire: Wire, encoder: Encoder, schedule: Callable[[Channel], None]) -> None:
        """`schedule` has `flush` called at the end of this turn of the loop."""
        self.wire = wire
        self.encoder = encoder
        self.viewers: set[Viewer] = set()
        self._schedule = schedule
        self._pending: list[Batch] = []

    def feed(self, entries: Sequence[Entry]) -> None:
        """Take entries that follow on those before."""
        encode = self.encoder.encode
        self._put(Batch.of([block for entry in entries for block in encode(entry)], entries[-1]))

    def feed_raw(self, entry_id: bytes, raw: bytes) -> None:
        """Take one entry as it was published; made for wires that need not know what it says."""
        frame = self.wire.frame
        if frame is None:
            self.feed((Entry.from_redis(entry_id, raw),))
        else:
            self._put(Batch(frame(entry_id, raw), 1, entry_id, "ended" if raw.startswith(END_PREFIX) else None))

    def _put(self, batch: Batch) -> None:
        if not self._pending:
            self._schedule(self)
        self._pending.append(batch)

    def flush(self, now: float) -> None:
        """Hand out what has come, joined."""
        if not self._pending:
            return
        batch, self._pending = Batch.joined(self._pending), []
        for viewer in tuple(self.viewers):
            try:
                viewer.take(batch, now)
            except Exception:  # one viewer's broken connection must not cost another's bytes
                log.exception("write to a viewer failed")
                viewer.stop("broken")
