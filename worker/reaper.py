"""Owns healing: messages whose worker died get another one, messages that may not go on get their end.

Any worker may look after any message; the index of appointments shares them out. Tasks: `run` (appointments, every
second or so) and `sweep` (all records, one worker a minute), both owned by the process and cancelled by it. Lost on a
crash: nothing, an appointment taken comes up again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Literal

from shared.dispatch import Dispatcher
from shared.errors import Unavailable
from shared.events import Failure
from shared.ids import MessageRef
from shared.log.ending import end_unowned, failure
from shared.log.log import Log
from shared.log.so_far import read_so_far
from shared.log.types import Meta
from shared.orphans import have_cancelled, run_left_behind
from worker.metrics import Metrics
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)

_AT_A_TIME = 100
_HOLD_MS = 5_000
"""How long a reaper that took an appointment has before another takes it."""
_AFTER_LEASE_MS = 20
LONGEST_PAUSE_MS = 60_000
_HANDED_OVER_PAUSE_MS = 5_000
"""Its record does not say since when a message that was handed over waits; its viewers do, in mid-answer."""
_SWEEP_PAUSE_S = 0.01


class Reaper:
    """Looks at overdue messages. Any number of them may work side by side."""

    def __init__(self, store: Log, dispatcher: Dispatcher, settings: WorkerSettings, metrics: Metrics) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._metrics = metrics

    async def run(self) -> None:
        """Keep appointments until cancelled."""
        await _forever(self._turn, self._settings.reap_s, "reaping")

    async def sweep(self) -> None:
        """Now and then, when it is this worker's turn, look for messages that no index knows; until cancelled."""
        await _forever(self.sweep_once, self._settings.sweep_s, "sweeping")

    async def _turn(self) -> None:
        await self.reap()
        await self.measure()

    async def measure(self) -> None:
        """Note how long the queue is: once a turn, whatever goes through it."""
        self._metrics.queue_depth.set(await self._dispatcher.depth())

    async def reap(self) -> None:
        """Look at every message whose time has come."""
        while True:
            refs = await self._store.overdue(_AT_A_TIME, _HOLD_MS)
            for action in await asyncio.gather(*(self._look_at(ref) for ref in refs)):
                self._metrics.reaped.labels(action).inc()
            if len(refs) < _AT_A_TIME:
                return

    async def sweep_once(self) -> None:
        """Make an appointment for every message that has not ended, if it is this worker's turn."""
        if not await self._store.take_sweep(int(self._settings.sweep_s * 1000)):
            return
        position, found = "0", 0
        while True:
            position, refs = await self._store.sweep(position)
            found += len(refs)
            # Soon, but not all at once; one that is well looked after just gets its usual appointment again.
            await asyncio.gather(*(self._store.watch(ref, random.randrange(2000)) for ref in refs))
            if position == "0":
                break
            await asyncio.sleep(_SWEEP_PAUSE_S)
        log.info("swept", extra={"unended": found})

    async def _look_at(self, ref: MessageRef) -> str:
        try:
            return await self._look(ref)
        except Unavailable:
            raise
        except Exception:  # one strange record must not keep the others from being looked at
            log.exception("record cannot be judged", extra=ref.fields)
            return "failed"

    async def _look(self, ref: MessageRef) -> str:
        meta = await self._store.meta(ref)
        if meta is None or meta.terminal:
            await self._store.unwatch(ref)
            return "dropped"
        if meta.leased:
            await self._store.watch(ref, meta.lease_until - meta.now + _AFTER_LEASE_MS)
            if meta.stop is not None:
                await self._cancel_run(meta)
            return "leased"
        verdict = judge(meta, self._settings)
        if verdict is None:
            await self._dispatcher.dispatch(ref, begun=meta.begun)
            await self._store.watch(ref, pause_ms(meta))
            self._log("message dispatched again", meta)
            return "dispatched"
        state, error = verdict
        reply = await end_unowned(self._store, self._dispatcher, meta, state, error)
        if reply.status == "moved":
            await self._store.watch(ref, random.randrange(100, 500))
            return "moved"
        self._log("message ended", meta, reply=reply.status, state=state, code=error.code if error else "")
        return "ended"

    async def _cancel_run(self, meta: Meta) -> None:
        """Cancel the background run of a stopped message for its owner, who may be dead: its lease tells only later."""
        run = run_left_behind(meta.ref, (await read_so_far(self._store, meta.ref)).events())
        if run is not None:
            await have_cancelled(self._dispatcher, run)
            self._log("run of a stopped message cancelled", meta)

    def _log(self, event: str, meta: Meta, **more: object) -> None:
        log.info(event, extra={**meta.ref.fields, "attempts": meta.attempts, "was": meta.state, **more})


def judge(meta: Meta, settings: WorkerSettings) -> tuple[Literal["aborted", "failed"], Failure | None] | None:
    """Say how a message that nobody owns must end; None if it may be attempted (again). A stop wins over a retry."""
    if meta.stop is not None:
        return "aborted", None
    if meta.decided is not None:
        return "failed", failure("worker_lost")  # what was decided is published in its place
    if 0 < meta.deadline <= meta.now:
        return "failed", failure("deadline_exceeded")
    if meta.attempts >= settings.max_attempts:
        return "failed", failure("worker_lost")
    waiting_s = (meta.now - meta.born) / 1000
    if not meta.begun and waiting_s > settings.queue_timeout_s:
        return "failed", failure("queue_timeout")
    return None


def pause_ms(meta: Meta) -> int:
    """Return when to look again after a dispatch: ever later, or a long queue would be looked at whole every second."""
    since = meta.lease_until if meta.state == "running" else meta.born
    longest = _HANDED_OVER_PAUSE_MS if meta.state == "queued" and meta.drained else LONGEST_PAUSE_MS
    return min(max(meta.now - since, 1000), longest)


async def _forever(step: Callable[[], Awaitable[None]], every_s: float, what: str) -> None:
    while True:
        # The jitter keeps the workers of a fleet from all looking at the same moment.
        await asyncio.sleep(every_s * random.uniform(0.75, 1.25))
        try:
            await step()
        except Unavailable as error:
            log.warning("redis is away", extra={"while": what, "reason": error.code})
        except Exception:  # the boundary of the task: one strange record must not end all healing
            log.exception("healing failed", extra={"while": what})
