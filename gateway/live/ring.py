"""Owns a tail's latest entries, so that a viewer that has just caught up need not read the log again."""

from __future__ import annotations

from collections import deque
from itertools import islice

from shared.cursor import Cursor
from shared.log.types import Entry

RING_ENTRIES = 256


class Ring:
    """Consecutive entries up to the tail's position, as they were published; the oldest fall out."""

    __slots__ = ("_rows", "add")

    def __init__(self) -> None:
        self._rows: deque[tuple[bytes, bytes]] = deque(maxlen=RING_ENTRIES)
        self.add = self._rows.append
        """Keep the entry, as id and payload, that follows on the last one."""

    def since(self, cursor: Cursor) -> list[Entry] | None:
        """Return the entries after `cursor`, or None if it is not among those kept."""
        rows = self._rows
        if not rows:
            return None
        index = cursor.seq - Cursor.from_redis(rows[0][0]).seq  # seq has no holes
        if not 0 <= index < len(rows) or rows[index][0] != cursor.id:
            return None
        return [Entry.from_redis(entry_id, raw) for entry_id, raw in islice(rows, index + 1, None)]
