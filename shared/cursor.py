"""Owns the cursor: a position in one message's log, `<epoch>-<seq>`."""

from __future__ import annotations

import re

from msgspec import Struct

from shared.errors import InvalidCursor

_FORM = re.compile(r"([0-9]{16})-([1-9][0-9]{0,8})", re.ASCII)


class Cursor(Struct, frozen=True, order=True, gc=False):
    """A position: `seq` counts a message's entries from 1, `epoch` names the claim that wrote it.

    The offset alone would lie after data loss: of the log 1, 2, 3 a failover may keep 1, 2 and a new
    owner then writes another 3. A reader that holds (epoch 7, 3) is told that its 3 no longer exists.
    Cursors order by epoch, then by seq. (A Struct: made and compared several times for
    every published batch, and kept by the thousand.)
    """

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @property
    def id(self) -> bytes:
        """The entry's id as Redis writes it."""
        return b"%d-%d" % (self.epoch, self.seq)

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read the text form; raise `InvalidCursor` for anything else (Redis itself accepts more)."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise InvalidCursor("a cursor is 16 digits, a dash and a sequence number from 1")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def from_redis(cls, entry_id: bytes) -> Cursor:
        """Read an entry id as Redis returns it."""
        epoch, _, seq = entry_id.partition(b"-")
        return cls(int(epoch), int(seq))
