"""Owns the queue's reading end: arq's worker with a loop of its own.

arq polls whether jobs wait; `shared.dispatch` picks and removes them.

A job is thin: it claims a message, hands it to the supervisor and returns, so running work never sits in the queue.
Tasks: `run` polls until cancelled and ends the tasks of jobs it has started, at most as many as slots are free.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Any

from arq import func
from arq.connections import ArqRedis
from arq.jobs import deserialize_job_raw
from arq.worker import Worker

from shared.dispatch import Dispatcher, PickedJob
from shared.errors import InvalidId, Unavailable
from shared.ids import MessageRef
from shared.jobs import CANCEL_NAME, CANCELS, JOB_NAME, QUEUE_NAME, Run, decode_job_value, encode_job_value
from shared.link import heed_cancellation
from shared.redis import connection_pool
from worker.failpoints import failpoint
from worker.intake import Intake
from worker.supervisor import Supervisor

log = logging.getLogger(__name__)

JOB_TIMEOUT_S = 10
_AT_A_TIME = 64
_END_JOBS_S = 2.0
_POLL_WITHIN_S = 15.0
"""After this a poll has failed. arq's client waits for a Redis that answers nothing as often as it tries again, for
minutes in all, and whoever judges us by our polls takes us for hung."""
_CANCEL_HELD_MS = 5_000
"""How long we hold a run to cancel: longer than `CancelsRuns.cancel_run` takes. If we die, others get it then."""


class _Poller(Worker):
    """arq's worker, polled by `Queue.run` in place of its own loop, which knows no wake-up."""

    dispatcher: Dispatcher
    polled = False
    cancelling = 0

    async def poll(self, most_jobs: int) -> None:
        """Start up to `most_jobs` of the waiting jobs, and cancels, which take no slot; raises what Redis raises."""
        self.allow_pick_jobs = most_jobs > 0
        self.max_jobs = min(most_jobs, _AT_A_TIME)
        await self._poll_iteration()
        if (room := _AT_A_TIME - self.cancelling) > 0:
            for task in self._start(await self.dispatcher.pick(CANCELS, room, _CANCEL_HELD_MS)):
                self.cancelling += 1
                task.add_done_callback(self._cancel_over)
        self.polled = True

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start the first jobs that nobody has, as many as may run; `job_ids` says only whether there are any.

        One script picks all of them, inside Redis: otherwise some hundreds of ids would be transferred to take one job
        from a long queue.
        """
        room = self.max_jobs - self.job_counter
        if not job_ids or room <= 0:
            return
        for task in self._start(await self.dispatcher.pick(QUEUE_NAME, room, self._held_ms)):
            self.job_counter += 1
            task.add_done_callback(self._job_over)

    def _start(self, jobs: list[PickedJob]) -> list[asyncio.Task[None]]:
        started = {f"{job.mark} {job.job_id}": asyncio.create_task(self._look(job), name="job") for job in jobs}
        self.tasks |= started
        return list(started.values())

    @property
    def _held_ms(self) -> int:
        return int(self.in_progress_timeout_s * 1000)

    async def _look(self, job: PickedJob) -> None:
        """Run a job and take it out of the queue; cancelled, leave it there.

        In place of arq's way, whose steps wait for each other's connections: a busy worker took a few jobs a second.
        """
        try:
            await self._call(job)
        except asyncio.CancelledError:
            await self._leave(job, done=False)
            raise
        except Exception:  # the boundary of the task: a job that cannot be run is no use in the queue
            log.exception("job failed")
        await self._leave(job, done=True)

    async def _call(self, job: PickedJob) -> None:
        if not job.body:
            return
        name, args, kwargs, _, _ = deserialize_job_raw(job.body, deserializer=decode_job_value)
        async with asyncio.timeout(JOB_TIMEOUT_S):
            await self.functions[name].coroutine({}, *args, **kwargs)

    async def _leave(self, job: PickedJob, *, done: bool) -> None:
        try:
            await self.dispatcher.leave(job, done=done)
        except Unavailable:
            log.warning("job left in the queue, Redis is away")  # somebody looks again once the mark is void

    def _job_over(self, _: object) -> None:
        self.job_counter -= 1

    def _cancel_over(self, _: object) -> None:
        self.cancelling -= 1


class Queue:
    """Reads the queue while slots are free. Survives a Redis outage of any length."""

    def __init__(
        self, url: str, intake: Intake, supervisor: Supervisor, dispatcher: Dispatcher, *, poll_s: float
    ) -> None:
        self._url = url
        self._intake = intake
        self._supervisor = supervisor
        self._dispatcher = dispatcher
        self._poll_s = poll_s
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.last_poll: float | None = None
        """When the last poll ended, or polling began; None before that."""

    def wake(self) -> None:
        """Poll now: a job was queued, or a slot became free."""
        self._wake.set()

    async def run(self) -> None:
        """Poll until cancelled; jobs that were started by then are waited for, briefly."""
        pause = 0.05
        self.last_poll = self._loop.time()
        while True:
            # A new one after each failure: arq loses count of its jobs when Redis breaks in the middle of starting one.
            pool = connection_pool(self._url)
            poller = self._poller(pool)
            try:
                heed_cancellation()
                await self._poll(poller)
            except asyncio.CancelledError:
                await self._end_jobs(poller)
                raise
            except Exception as error:  # the boundary of the task: whatever breaks arq, the worker polls on
                self.last_poll = self._loop.time()
                log.warning("queue cannot be read", extra={"reason": type(error).__name__})
                await self._end_jobs(poller)
            finally:
                with suppress(Exception):  # what its sockets say in closing must not end the polling
                    await pool.disconnect()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = 0.05 if poller.polled else min(pause * 2, 1.0)

    async def _poll(self, poller: _Poller) -> None:
        while True:
            self._wake.clear()
            async with asyncio.timeout(_POLL_WITHIN_S):
                await poller.poll(self._supervisor.free)
            heed_cancellation()
            self.last_poll = self._loop.time()
            try:
                async with asyncio.timeout(self._poll_s * random.uniform(0.8, 1.2)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _poller(self, pool: Any) -> _Poller:
        redis = ArqRedis(pool, job_serializer=encode_job_value, job_deserializer=decode_job_value)
        poller = _Poller(
            [
                func(job, name=name, timeout=JOB_TIMEOUT_S, keep_result=0, max_tries=1_000_000)
                for name, job in ((JOB_NAME, self._job), (CANCEL_NAME, self._cancel))
            ],
            queue_name=QUEUE_NAME,
            redis_pool=redis,
            handle_signals=False,
            max_jobs=_AT_A_TIME,
            queue_read_limit=1,
            job_timeout=JOB_TIMEOUT_S,
            keep_result=0,
            health_check_interval=3600,
            job_serializer=encode_job_value,
            job_deserializer=decode_job_value,
            log_results=False,
        )
        poller.dispatcher = self._dispatcher
        return poller

    async def _end_jobs(self, poller: _Poller) -> None:
        if poller.tasks:
            await asyncio.wait(poller.tasks.values(), timeout=_END_JOBS_S)
        for task in poller.tasks.values():
            task.cancel()
        if poller.tasks:
            await asyncio.wait(poller.tasks.values(), timeout=_END_JOBS_S)

    async def _cancel(self, ctx: dict[Any, Any], member: str, model: str, run_id: str, attempt: int) -> None:
        run = Run(member, model, run_id, attempt)
        if await self._intake.upstreams.cancel(run):
            log.info("orphaned run cancelled", extra={"run": run_id})
        else:
            log.error("orphaned run not cancelled", extra={"run": run_id})

    async def _job(self, ctx: dict[Any, Any], member: str) -> None:
        failpoint("after_dequeue")
        try:
            ref = MessageRef.parse_member(member)
        except InvalidId:
            log.error("job names no message")
            return
        if not self._supervisor.reserve():
            # Not arq's Retry: that compares the clocks of two machines. And no wake-up, or two full workers would spin.
            await self._dispatcher.dispatch(ref, wake=False)
            return
        generation = None
        try:
            generation = await self._intake.take(ref)
        except Unavailable:
            log.warning("claim outcome unknown: Redis is away", extra=ref.fields)
        finally:
            if generation is None:
                self._supervisor.unreserve()
        if generation is not None:
            self._supervisor.start(generation)
            self.wake()  # there may be more than were picked at a time
