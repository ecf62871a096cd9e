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

    __slots__ = ("_all", "_pending", "_schedule", "_viewers", "encoder", "wire")

    def __init__(self, wire: Wire, encoder: Encoder, schedule: Callable[[Channel], None]) -> None:
        """`schedule` has `flush` called at the end of this turn of the loop."""
        self.wire = wire
        self.encoder = encoder
        self._viewers: set[Viewer] = set()
        self._all: tuple[Viewer, ...] | None = None
        """Those of `_viewers`, unless one came or left since: a batch is handed out far more often."""
        self._schedule = schedule
        self._pending: list[Batch] = []

    def add(self, viewer: Viewer) -> None:
        """Have a viewer get whatever comes from now on."""
        self._viewers.add(viewer)
        self._all = None

    def discard(self, viewer: Viewer) -> bool:
        """Forget a viewer; return whether there still are others."""
        self._viewers.discard(viewer)
        self._all = None
        return bool(self._viewers)

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
        pending = self._pending
        if not pending:
            return
        batch = pending[0] if len(pending) == 1 else Batch.joined(pending)
        pending.clear()
        if self._all is None:
            self._all = tuple(self._viewers)
        for viewer in self._all:
            try:
                viewer.take(batch, now)
            except Exception:  # one viewer's broken connection must not cost another's bytes
                log.exception("write to a viewer failed")
                viewer.stop("broken")
