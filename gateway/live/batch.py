"""Owns encoded entries on their way to viewers: one run of bytes for all, as events and as an HTTP chunk."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from gateway.live.transport import chunk
from gateway.protocols.base import Over, until_last
from shared.log.types import Entry


class Batch(Struct, eq=False, gc=False):
    """Some consecutive entries on one wire, as every live viewer of the wire gets them. Not to be changed.

    `frames`: `count` events. `last`: the id of the last entry, as Redis writes it. `over`: how the wire's stream ends
    with them, if it does; then nothing of later batches is for the same viewers. (A struct for the same reasons as
    `Entry` is one.)
    """

    frames: bytes
    count: int
    last: bytes
    over: Over | None
    _chunk: bytes | None = None

    @classmethod
    def of(cls, blocks: Sequence[bytes], last: Entry) -> Batch:
        """Return the encoding of the entries up to `last` as a batch."""
        kept, over = until_last(blocks)
        frames = kept[0] if len(kept) == 1 else b"".join(kept)
        return cls(frames, len(kept), last.id, over or ("ended" if last.is_end else None))

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Return batches that follow on each other as one, up to the first with which the stream is over."""
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
