"""Owns writing one message's segments for late viewers, beside its appends: no token waits for one.

Tasks: one that writes what is due, at most one at a time; started by `look`, cancelled by `close`, both called by the
writer. A failure is counted and otherwise ignored: readers do without, and what is missing is written when the next
segment is due. Lost on a crash: nothing that the log does not have.
"""

from __future__ import annotations

import asyncio
import logging

from shared.errors import TailraceError
from shared.log.log import Log
from shared.log.types import Ownership
from shared.tasks import end_tasks
from worker.ledger import Ledger
from worker.metrics import Metrics

log = logging.getLogger(__name__)


class Checkpoints:
    """Writes the segments of a ledger."""

    def __init__(self, store: Log, own: Ownership, ledger: Ledger, metrics: Metrics) -> None:
        """The segments that the ledger has are taken to be in Redis: the claimer has read them there."""
        self._store = store
        self._own = own
        self._ledger = ledger
        self._metrics = metrics
        self._written = len(ledger.segments)
        self._task: asyncio.Task[None] | None = None

    def look(self, acked: int) -> None:
        """Have a segment written if entries up to `acked` are enough for one; returns at once."""
        if (self._task is None or self._task.done()) and self._ledger.due(acked):
            self._task = asyncio.create_task(self._write(acked), name="segments")

    async def close(self) -> None:
        """End the writing; what was sent may still arrive."""
        task, self._task = self._task, None  # its cancellation knows us: if we knew it, a circle would wait to be found
        await end_tasks(task)

    async def _write(self, acked: int) -> None:
        try:
            self._ledger.cut(acked)
            while self._written < len(self._ledger.segments) and await self._write_next():
                pass
        except TailraceError as error:
            self._metrics.segments.labels("failed").inc()
            log.info("segment not written", extra={**self._own.ref.fields, "reason": repr(error)})
        except Exception:  # the boundary of the task: a message must not fail for the want of a cache
            self._metrics.segments.labels("failed").inc()
            log.exception("segments broken", extra=self._own.ref.fields)

    async def _write_next(self) -> bool:
        """Write one; return whether to go on."""
        before = self._written
        reply = await self._store.checkpoint(self._own, before, self._ledger.segments[before])
        self._metrics.segments.labels("written" if reply.status == "ok" else "refused").inc()
        if reply.status == "ok":
            self._written = reply.seq
        elif reply.status == "gap":
            # Fewer than we wrote: a failover or a restore lost them, and they are written again.
            self._written = min(reply.seq, before)
        return reply.status == "ok" or self._written < before
