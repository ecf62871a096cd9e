"""A reader that keeps PROTOCOL.md's rules: it takes what was published late, heals from the log, and starts over."""

from __future__ import annotations

from shared.cursor import Cursor
from shared.ids import MessageRef
from shared.log.log import Log
from shared.log.types import Entry


class Viewer:
    """What somebody saw of a message, in order."""

    def __init__(self, log: Log, ref: MessageRef) -> None:
        self._log = log
        self._ref = ref
        self.saw: list[Entry] = []
        self.resets = 0
        self.taken = 0

    @property
    def cursor(self) -> Cursor | None:
        return self.saw[-1].cursor if self.saw else None

    def hear(self, published: bytes) -> None:
        """Take a batch if it follows exactly what was seen last; anything else waits for `heal`."""
        head, newline, body = published.partition(b"\n")
        if not newline or self.cursor is None:
            return
        prev, first = map(Cursor.from_redis, head.split(b" "))
        if prev == self.cursor:
            lines = body.split(b"\n")
            self.saw += [Entry(Cursor(first.epoch, first.seq + n), raw) for n, raw in enumerate(lines)]
            self.taken += 1

    async def heal(self) -> None:
        """Read on from the cursor's own entry; where that is gone, start over."""
        page = await self._log.read(self._ref, self.cursor)
        if self.cursor is None:
            self.saw = page
        elif page and page[0].cursor == self.cursor:
            self.saw += page[1:]
        else:
            self.resets += 1
            self.saw = await self._log.read(self._ref, None)
