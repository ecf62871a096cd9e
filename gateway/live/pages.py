"""Owns catch-up reads: viewers that ask for the same page at about the same time share one read and one encoding."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from copy import copy
from typing import Any

from gateway.live.batch import Batch
from gateway.protocols.base import Over, Wire
from shared.cursor import Cursor
from shared.ids import MessageRef
from shared.log.log import Log
from shared.log.types import Entry

FIRST_PAGE = 250
"""Entries of a viewer's first page: nobody knows yet how large they are."""
MOST_ENTRIES = 2000
"""Of a later page: encoding one of these takes a millisecond or two from everybody else."""
PAGE_BYTES = 262_144
"""About what later pages hold: a viewer that takes nothing sits on one of them."""
MOST_KEPT = 16
"""Pages that are kept for those who come a moment later: a crowd that catches up is never quite in step."""

_Key = tuple[MessageRef, Cursor | None, int]


class Page:
    """Some consecutive entries, and their bytes per stateless wire, made on first need.

    `full`: there may be more behind it. `size`: bytes of its entries. `then`: how many the next page should have.
    """

    __slots__ = ("_batches", "entries", "full", "size", "then")

    def __init__(self, entries: list[Entry], asked: int) -> None:
        self.entries = entries
        self.full = len(entries) >= asked
        self.size = size = sum(len(entry.raw) for entry in entries)
        self.then = max(2, min(MOST_ENTRIES, PAGE_BYTES * len(entries) // size)) if size else FIRST_PAGE
        self._batches: dict[tuple[str, int], Batch] = {}

    def batch(self, wire: Wire, have: int) -> Batch:
        """Return the page without its first `have` entries on a stateless wire: one run of bytes for all viewers."""
        key = (wire.name, have)
        batch = self._batches.get(key)
        if batch is None:
            frame, wanted = wire.frame, self.entries[have:]
            assert frame is not None
            frames = b"".join([frame(entry.id, entry.raw) for entry in wanted])
            over: Over | None = "ended" if wanted[-1].is_end else None
            batch = self._batches[key] = Batch(frames, len(wanted), wanted[-1].id, over)
        return batch


class Pages:
    """Single-flight reads of one Redis' logs; what cannot change any more is kept until the next `forget`."""

    def __init__(self, log: Log, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._log = log
        self._spawn = spawn
        self._reads: dict[_Key, asyncio.Future[Page]] = {}
        self._kept: dict[_Key, Page] = {}

    async def read(self, ref: MessageRef, start: Cursor | None, count: int = FIRST_PAGE) -> Page:
        """Return the page of up to `count` entries that begins at `start` (inclusive; the first entry if None).

        The read belongs to the hub, so a viewer that goes away does not take it from the others.
        """
        key = (ref, start, count)
        if (kept := self._kept.get(key)) is not None:
            await asyncio.sleep(0)  # a reader that never waits must let the others have a turn
            return kept
        reading = self._reads.get(key)
        if reading is None:
            reading = self._reads[key] = asyncio.get_running_loop().create_future()
            self._spawn(self._read(key, reading))
        return await asyncio.shield(reading)

    async def read_alone(self, ref: MessageRef, start: Cursor | None) -> list[Entry]:
        """Return one entry at `start` or after it, by a read that began after this call."""
        return await self._log.read(ref, start, 1)

    def forget(self) -> None:
        """Keep nothing: called often, and whenever a log turns out not to be what it was."""
        self._kept.clear()

    async def _read(self, key: _Key, reading: asyncio.Future[Page]) -> None:
        try:
            entries = await self._log.read(*key)
        except BaseException as error:
            if not reading.cancelled():
                reading.set_exception(error if isinstance(error, Exception) else ConnectionError())
                reading.exception()  # marks it as seen: its readers may all have gone
            if not isinstance(error, Exception):
                raise
        else:
            page = Page(entries, key[2])
            self._keep(key, page)
            if not reading.cancelled():
                reading.set_result(page)
        finally:
            del self._reads[key]

    def _keep(self, key: _Key, page: Page) -> None:
        """Keep what nothing is added to: behind a page that is not full there may be more by the time it is asked for.

        One of few entries is not worth that second question, and a large one costs too much.
        """
        entries = page.entries
        worth = len(entries) >= FIRST_PAGE and page.size <= 2 * PAGE_BYTES and key[1] in (None, entries[0].cursor)
        if worth and len(self._kept) < MOST_KEPT:
            self._kept[key] = kept = copy(page)
            kept.full = True
