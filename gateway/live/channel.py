"""Owns the live end of one wire of one message: entries encoded once, joined once a turn, handed to every viewer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.live.transport import chunk
from gateway.protocols.base import Encoder, Over, Wire, until_last
from shared.log.types import END_PREFIX, Entry

if TYPE_CHECKING:
    from gateway.live.viewer import Viewer

log = logging.getLogger(__name__)


class Batch:
    """Some consecutive entries on one wire, as every live viewer of the wire gets them.

    `frames`: `count` events. `last`: the id of the last entry, as Redis writes it. `over`: how the wire's stream ends
    with them, if it does; then nothing of later batches is for the same viewers.
    """

    __slots__ = ("_chunk", "count", "frames", "last", "over")

    def __init__(self, frames: bytes, count: int, last: bytes, over: Over | None) -> None:
        self.frames = frames
        self.count = count
        self.last = last
        self.over = over
        self._chunk: bytes | None = None

    @classmethod
    def of(cls, blocks: Sequence[bytes], last: Entry) -> Batch:
        """Return the encoding of the entries up to `last` as a batch."""
        kept, over = until_last(blocks)
        frames = kept[0] if len(kept) == 1 else b"".join(kept)
        return cls(frames, len(kept), last.cursor.id, over or ("ended" if last.is_end else None))

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Return batches that follow on each other as one, up to the first with which the stream is over."""
        if len(batches) == 1:
            return batches[0]
        end = next((index for index, batch in enumerate(batches) if batch.over), len(batches) - 1)
        kept, last = batches[: end + 1], batches[end]
        frames = b"".join([batch.frames for batch in kept])
        return cls(frames, sum(batch.count for batch in kept), last.last, last.over)

    @property
    def chunk(self) -> bytes:
        """The frames as an HTTP chunk, made once for all viewers."""
        if self._chunk is None:
            self._chunk = chunk(self.frames)
        return self._chunk


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
