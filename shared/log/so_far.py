"""Owns reading what a message amounts to so far: its segments, then the entries behind them.

The whole log stands behind every answer: segments that do not meet it in one cursor count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.events import Event
from shared.fold import Fold, fold_in_slices
from shared.ids import MessageRef
from shared.log.log import Log
from shared.log.segments import Segment
from shared.log.types import Entry
from shared.message import Message


@dataclass(frozen=True, slots=True)
class SoFar:
    """A log as read: `entries` are those behind the last of `segments`, all where there is none."""

    segments: Sequence[Segment]
    entries: Sequence[Entry]
    last: Entry | None
    """The last entry there was, in a segment or behind them."""

    def events(self) -> Iterator[Event]:
        """Yield the events, decoded as they are asked for; their fold is that of the whole log."""
        for segment in self.segments:
            yield from segment.events()
        for entry in self.entries:
            yield entry.event

    async def fold(self, blank: Message) -> Message:
        """Fold everything into `blank`, letting others have their turns."""
        return await fold_in_slices(Fold(blank), self.events())


async def read_so_far(log: Log, ref: MessageRef, *, with_end: bool = True) -> SoFar:
    """Read what there is of the message; `with_end=False` leaves the terminal entry out."""
    segments, joint = await log.segments(ref), None
    entries = await log.read_all(ref, segments[-1].last if segments else None)
    if segments and not entries:
        segments, entries = [], await log.read_all(ref)  # they are of a branch that was lost
    if segments:
        joint, entries = entries[0], entries[1:]
    if not with_end and entries and entries[-1].is_end:
        entries = entries[:-1]
    return SoFar(segments, entries, entries[-1] if entries else joint)
