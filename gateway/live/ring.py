"""Owns what a tail takes while viewers read the log, so that who has just caught up need not read it again."""

from __future__ import annotations

from collections import deque
from itertools import islice

from shared.cursor import Cursor
from shared.log.types import Entry

RING_ENTRIES = 256


class Ring:
    """Consecutive entries up to the tail's position, as they were published; the oldest fall out."""

    __slots__ = ("_rows", "add")

    def __init__(self, at: bytes) -> None:
        """`at`: the id of the entry before the first one to be kept."""
        self._rows: deque[tuple[bytes, bytes]] = deque([(at, b"")], maxlen=RING_ENTRIES)
        self.add = self._rows.append
        """Keep the entry, as id and payload, that follows on the last one."""

    def since(self, cursor: Cursor) -> list[Entry] | None:
        """Return the entries after `cursor`, or None if it is not among those kept."""
        rows = self._rows
        index = cursor.seq - Cursor.from_redis(rows[0][0]).seq  # seq has no holes
        if not 0 <= index < len(rows) or rows[index][0] != cursor.id:
            return None
        return [Entry.from_redis(entry_id, raw) for entry_id, raw in islice(rows, index + 1, None)]
