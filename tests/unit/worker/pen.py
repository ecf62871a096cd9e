"""Owns a writer for the tests of the worker: it runs on a real log, and keeps what it signalled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from shared import events as ev
from shared.ids import MessageRef
from shared.log.log import Log
from shared.log.types import Ownership
from shared.tasks import end_tasks
from tests.support.log import claim, created, marker
from tests.support.wait import wait_until
from worker.lease import Lease
from worker.ledger import Ledger
from worker.metrics import Metrics
from worker.sender import WriterLimits
from worker.writer import Writer


class Pen:
    """A writer that runs, with what it signalled."""

    def __init__(self, log: Log, own: Ownership, ledger: Ledger, backup: Any, lease_ms: int, **limits: Any) -> None:
        loop = asyncio.get_running_loop()
        self.signals: list[str] = []
        self.metrics = Metrics()
        given = {"flush_bytes": 262_144, "flush_delay_s": 0.0, "max_unsent_bytes": 262_144, "outage_s": 5.0, **limits}
        self.writer = Writer(
            log,
            own,
            ledger,
            backup,
            Lease(lease_ms, lease_ms // 4, loop.time()),
            WriterLimits(**given),
            channel="tr:worker:w",
            signal=self.signals.append,
            metrics=self.metrics,
        )
        self.task = asyncio.create_task(self.writer.run())
        self.own = own
        self._log = log

    def say(self, *texts: str) -> None:
        for text in texts:
            self.writer.say(ev.TextDelta("t", text))

    async def logged(self, text: str) -> None:
        """Wait until the log's text is `text`."""

        async def same() -> bool:
            return await said(self._log, self.own.ref) == text

        await wait_until(same, what=f"the text {text!r}")

    async def finish(self, state: Any = "done") -> str:
        await end_tasks(self.task)
        return await self.writer.finish(state, ev.End(state, 1))


async def said(log: Log, ref: MessageRef) -> str:
    events = [entry.event for entry in await log.read_all(ref)]
    return "".join(event.delta for event in events if isinstance(event, ev.TextDelta))


@asynccontextmanager
async def pen(log: Log, ref: MessageRef, *, lease_ms: int = 60_000, **limits: Any) -> AsyncIterator[Pen]:
    """Create and claim `ref`, and write `text-start`."""
    await created(log, ref)
    entries = await log.read_all(ref)
    own = await claim(log, ref, lease_ms=lease_ms)
    ledger = Ledger(entries, own.epoch, marker(1), max_entry=65_536, max_bytes=10_000_000, max_entries=100_000)
    pen = Pen(log, own, ledger, await log.backup(ref), lease_ms, **limits)
    pen.writer.put(ev.TextStart("t"))
    yield pen
    await end_tasks(pen.task)
