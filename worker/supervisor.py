"""Owns the slots and every running attempt: one task each, a clock for all of them, and the drain.

Tasks: one per attempt (ends by itself, interrupted by `drain`, cancelled by `close`), `_ticking` (deadlines and
heartbeats) and at most one `_watch` (appointments with the reapers), both cancelled by `close`. One clock for all
attempts is what lets a token cost no timer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from shared.ids import MessageRef
from shared.log.log import Log
from shared.tasks import end_tasks
from worker.generate import Generation
from worker.metrics import Metrics

log = logging.getLogger(__name__)

TICK_S = 0.2
HELD_UP_S = 2.0
_HAND_OVER_S = 10.0
"""How long handing over may take once the drain window has passed."""
_WATCHES_AT_A_TIME = 200


class Supervisor:
    """Runs up to `slots` attempts. `on_free` is called whenever a slot becomes free."""

    def __init__(self, slots: int, store: Log, lease_ms: int, metrics: Metrics, on_free: Callable[[], None]) -> None:
        self._slots = slots
        self._store = store
        self._lease_ms = lease_ms
        self._metrics = metrics
        self._on_free = on_free
        self._reserved = 0
        self._running: dict[asyncio.Task[None], Generation] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.draining = False
        metrics.slots.set(slots)

    @property
    def free(self) -> int:
        """How many more attempts may start; none while draining."""
        return 0 if self.draining else self._slots - self._reserved - len(self._running)

    def open(self) -> None:
        """Start the clock."""
        self._ticker = asyncio.create_task(self._ticking(), name="ticker")

    def reserve(self) -> bool:
        """Take a slot for a claim about to be tried; hand it to `start` or give it back with `unreserve`."""
        if self.free <= 0:
            return False
        self._reserved += 1
        return True

    def unreserve(self) -> None:
        """Give a reserved slot back."""
        self._reserved -= 1
        self._on_free()

    def start(self, generation: Generation) -> None:
        """Run `generation` in a reserved slot; before `drain`, if at all."""
        self._reserved -= 1
        task = asyncio.create_task(self._run(generation), name="generation")
        self._running[task] = generation
        self._metrics.slots_used.set(len(self._running))
        task.add_done_callback(self._ended)

    def hint(self, message_id: str | None) -> None:
        """Have the attempts at messages of that id look whether they were stopped; all of them if None."""
        for generation in self._running.values():
            if message_id is None or generation.own.ref.message_id == message_id:
                generation.hint()

    async def drain(self, within_s: float, hurry: asyncio.Event) -> None:
        """Start nothing more, let running attempts end by themselves for `within_s`, then hand the rest over.

        `hurry` ends the waiting early. Returns when no attempt runs any more, or after a bounded time.
        """
        self.draining = True
        self._metrics.draining.set(1)
        log.info("draining", extra={"running": len(self._running), "within_s": within_s})
        waiting = asyncio.create_task(hurry.wait(), name="hurry")
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        while self._running and not hurry.is_set() and loop.time() < end:
            await asyncio.wait(
                {*self._running, waiting}, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED
            )
        await end_tasks(waiting)
        if self._running:
            log.info("handing over", extra={"running": len(self._running)})
            for generation in self._running.values():
                generation.interrupt("drain")
            await asyncio.wait({*self._running}, timeout=_HAND_OVER_S)

    async def close(self) -> None:
        """Cancel what still runs, as a crash would, and stop the clock."""
        await end_tasks(self._ticker, self._watching)
        running = set(self._running)
        for task in running:
            task.cancel()
        if running:  # together: each may wait a while for an upstream that ignores its cancellation
            await asyncio.wait(running, timeout=_HAND_OVER_S)

    async def _run(self, generation: Generation) -> None:
        outcome = "abandoned"
        try:
            outcome = await generation.run()
        except Exception:  # the boundary of the task: one attempt's bug must not take the others along
            log.exception("attempt broke", extra=generation.fields)
        finally:
            self._metrics.generations.labels(outcome).inc()
            log.info("attempt over", extra={**generation.fields, "outcome": outcome})

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task).let_go()
        self._metrics.slots_used.set(len(self._running))
        self._on_free()

    async def _ticking(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            late_s, due = loop.time() - due, loop.time() + TICK_S
            if late_s > HELD_UP_S:  # by what blocks, an agent most likely; for longer, and every lease is lost to it
                log.warning("the loop was held up", extra={"seconds": round(late_s, 1), "running": len(self._running)})
            try:
                self._tick(loop.time())
            except Exception:  # the boundary of the task: without it every lease of this worker would run out
                log.exception("tick broke")
            await asyncio.sleep(TICK_S)

    def _tick(self, now: float) -> None:
        for generation in self._running.values():
            generation.tick(now)
        # Beside the clock, not in it: a Redis that does not answer must not stop the deadlines.
        if self._watching is None or self._watching.done():
            running = self._running.values()
            due = [generation.own.ref for generation in running if generation.writer.lease.take_watch_due(now)]
            self._watching = asyncio.create_task(self._watch(due), name="watch") if due else None

    async def _watch(self, refs: list[MessageRef]) -> None:
        try:
            for start in range(0, len(refs), _WATCHES_AT_A_TIME):
                await self._store.watch_all(refs[start : start + _WATCHES_AT_A_TIME], self._lease_ms)
        except Exception as error:
            # Renewed with the next heartbeat, and the sweep finds what was forgotten all the same.
            log.warning("appointments not renewed", extra={"reason": type(error).__name__})
