"""Owns catch-up reads: viewers that ask for the same page at the same time share one read and one encoding."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.live.batch import Batch
from gateway.protocols.base import Over, Wire
from shared.cursor import Cursor
from shared.ids import MessageRef
from shared.log.log import PAGE, Log
from shared.log.types import Entry


class Page:
    """Some consecutive entries, and their bytes per stateless wire, made on first need."""

    __slots__ = ("_batches", "entries", "full")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.full = len(entries) >= PAGE
        self._batches: dict[tuple[str, int], Batch] = {}

    def batch(self, wire: Wire, have: int) -> Batch:
        """Return the page without its first `have` entries on a stateless wire: one run of bytes for all viewers."""
        key = (wire.name, have)
        batch = self._batches.get(key)
        if batch is None:
            frame, wanted = wire.frame, self.entries[have:]
            assert frame is not None
            frames = b"".join([frame(entry.cursor.id, entry.raw) for entry in wanted])
            over: Over | None = "ended" if wanted[-1].is_end else None
            batch = self._batches[key] = Batch(frames, len(wanted), wanted[-1].cursor.id, over)
        return batch


class Pages:
    """Single-flight reads of one Redis' logs."""

    def __init__(self, log: Log, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._log = log
        self._spawn = spawn
        self._reads: dict[tuple[MessageRef, Cursor | None], asyncio.Future[Page]] = {}

    async def read(self, ref: MessageRef, start: Cursor | None) -> Page:
        """Return the page that begins at `start` (inclusive; the first entry if None).

        The read belongs to the hub, so a viewer that goes away does not take it from the others.
        """
        key = (ref, start)
        reading = self._reads.get(key)
        if reading is None:
            reading = self._reads[key] = asyncio.get_running_loop().create_future()
            self._spawn(self._read(key, reading))
        return await asyncio.shield(reading)

    async def read_alone(self, ref: MessageRef, start: Cursor | None) -> list[Entry]:
        """Return one entry at `start` or after it, by a read that began after this call."""
        return await self._log.read(ref, start, 1)

    async def _read(self, key: tuple[MessageRef, Cursor | None], reading: asyncio.Future[Page]) -> None:
        try:
            entries = await self._log.read(*key)
        except BaseException as error:
            if not reading.cancelled():
                reading.set_exception(error if isinstance(error, Exception) else ConnectionError())
                reading.exception()  # marks it as seen: its readers may all have gone
            if not isinstance(error, Exception):
                raise
        else:
            if not reading.cancelled():
                reading.set_result(Page(entries))
        finally:
            del self._reads[key]
