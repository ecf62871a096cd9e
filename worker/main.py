"""Owns one worker process: what it is made of, the order in which that starts and stops, and its signals.

SIGTERM or SIGINT: take no more work, let answers end for the drain window, hand the rest over, exit 0; a second
signal cuts the window short. Tasks: the queue's and the reaper's two, owned by `run` and cancelled by it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from typing import Any

from shared.commands import Commands
from shared.dispatch import Dispatcher
from shared.ends import Ends
from shared.errors import UnsafeRedis
from shared.feed import Feed
from shared.log.keys import WAKE, worker_channel
from shared.log.log import Log
from shared.models import Models
from shared.redis import check_queue, check_redis, command_link
from shared.tasks import end_tasks
from worker.acks import AckLog
from worker.dispatch import Queue
from worker.health import HealthServer
from worker.intake import Intake
from worker.metrics import Metrics
from worker.reaper import Reaper
from worker.settings import WorkerSettings
from worker.stops import Subscription
from worker.supervisor import Supervisor
from worker.upstreams.config import Upstreams

log = logging.getLogger(__name__)

_HUNG_AFTER_S = 30.0


class WorkerProcess:
    """All parts of one worker. Made inside the running loop."""

    def __init__(self, settings: WorkerSettings, models: Models) -> None:
        """Raise `ValueError` if a model cannot be made."""
        self.settings = settings
        self.name = settings.worker_id or f"worker-{secrets.token_hex(4)}"
        self.metrics = Metrics()
        self.upstreams = Upstreams(models, settings, os.environ)
        channel = worker_channel(self.name)
        self.link = command_link(settings.redis_url, name="log")
        self.queue_link = command_link(settings.queue_url, name="queue")
        self.store = _open_log(self.link, settings)
        self.dispatcher = Dispatcher(self.queue_link, deadline_s=settings.redis_deadline_s)
        self.supervisor = Supervisor(
            settings.worker_slots, self.store, settings.lease_ms, self.metrics, lambda: self.queue.wake()
        )
        self.intake = Intake(self.store, self.dispatcher, self.upstreams, settings, self.metrics, channel, set())
        self.queue = Queue(settings.queue_url, self.intake, self.supervisor, self.dispatcher, poll_s=settings.poll_s)
        self.reaper = Reaper(self.store, self.dispatcher, settings, self.metrics)
        self.stops = Subscription(settings.redis_url, channel, self.supervisor.hint, name="stops")
        self.wakes = Subscription(settings.queue_url, WAKE, lambda _: self.queue.wake(), name="wakes")
        self.health = HealthServer(
            settings.worker_health_host,
            settings.worker_health_port,
            alive=self._alive,
            ready=self._ready,
            metrics=self.metrics.text,
        )

    async def run(self) -> None:
        """Work until a signal asks to stop, then drain; raise `UnsafeRedis` or `OSError` if it cannot start.

        None of its tasks may end before that: if polling or healing stops, the worker drains too, and raises.
        """
        stop, hurry = asyncio.Event(), asyncio.Event()
        _on_signals(stop, hurry)
        await self._open(stop)
        tasks = [
            asyncio.create_task(self.queue.run(), name="queue"),
            asyncio.create_task(self.reaper.run(), name="reaper"),
            asyncio.create_task(self.reaper.sweep(), name="sweep"),
        ]
        log.info("worker started", extra={"worker": self.name, "slots": self.settings.worker_slots})
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            broken = [task for task in tasks if task.done()]
            self.supervisor.draining = True
            await end_tasks(*tasks)
            await self.supervisor.drain(self.settings.worker_drain_s, hurry)
        finally:
            await end_tasks(stopping, *tasks)
            await self._close()
        for task in broken:
            raise RuntimeError(f"the task {task.get_name()} of the worker ended") from task.exception()
        log.info("worker ended", extra={"worker": self.name})

    async def _open(self, stop: asyncio.Event) -> None:
        if self.settings.worker_health_port:
            await self.health.open()
        for link in (self.link, self.queue_link):
            await link.open()
        await self._wait_for_redis(stop)
        await self.stops.open()
        await self.wakes.open()
        self.supervisor.open()

    async def _wait_for_redis(self, stop: asyncio.Event) -> None:
        """Wait until Redis is there and safe: a worker that starts before its Redis is ordinary in a cluster."""
        checking = asyncio.create_task(self._check_redis(), name="check redis")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({checking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if checking.done():
                checking.result()
        finally:
            await end_tasks(checking, stopping)

    async def _check_redis(self) -> None:
        while True:
            try:
                await self.link.wait_up(5.0)
                await check_redis(self.link)
                return await check_queue(self.queue_link)
            except UnsafeRedis:
                raise
            except Exception as error:  # not there yet, or still loading
                log.warning("waiting for redis", extra={"reason": repr(error)})
                await asyncio.sleep(0.5)

    async def _close(self) -> None:
        await self.supervisor.close()
        for subscription in (self.stops, self.wakes):
            await subscription.close()
        await self.upstreams.close()
        for link in (self.link, self.queue_link):
            await link.close()
        await self.health.close()

    def _alive(self) -> str:
        # A poll that fails counts: Redis being away is no reason to restart the worker, a hung loop is. And none is due
        # before Redis has answered for the first time.
        if self.queue.last_poll is None:
            return ""
        age = asyncio.get_running_loop().time() - self.queue.last_poll
        return "queue not polled" if age > _HUNG_AFTER_S and not self.supervisor.draining else ""

    def _ready(self) -> str:
        if self.supervisor.draining:
            return "draining"
        # Once only: a Redis that goes away later must not take every worker out of service at a stroke.
        return "" if self.stops.subscribed and self.wakes.subscribed else "starting"


def _open_log(link: Commands, settings: WorkerSettings) -> Log:
    options: dict[str, Any] = {
        "deadline_s": settings.redis_deadline_s,
        "replicas": settings.wait_replicas,
        "on_end": Ends(link, Feed(link, keep_s=settings.retain_s)).tell,
        "gather_s": settings.gather_ms / 1000,
    }
    if settings.acks_file:
        return AckLog(settings.acks_file, link, settings.retention, **options)
    return Log(link, settings.retention, **options)


def _on_signals(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
