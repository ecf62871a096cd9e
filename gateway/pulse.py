"""Owns the answer to "are you well": one task that looks once a second whether the loop turns and Redis answers.

Liveness and readiness are different questions. Alive: the loop turns; otherwise restart me. Ready: send me
traffic. A Redis that is away for some seconds changes neither, since every replica would say the same and the
service would be empty just when viewers reconnect; a Redis that has been away for longer makes us unready.

Tasks: `_beat`, owned by the pulse and cancelled by `close`.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.metrics import Metrics
from shared.commands import Commands
from shared.errors import TailraceError
from shared.link import ReplyError
from shared.tasks import end_tasks

log = logging.getLogger(__name__)

EVERY_S = 1.0
STALLED_S = 15.0
"""A loop that has not turned for so long is not coming back."""


class Pulse:
    """What the probes read."""

    def __init__(self, link: Commands, metrics: Metrics, *, grace_s: float) -> None:
        self._link = link
        self._metrics = metrics
        self._grace_s = grace_s
        self._task: asyncio.Task[None] | None = None
        self._beat_at = 0.0
        self._redis_at = -float("inf")
        self.draining = False

    def open(self) -> None:
        """Start looking."""
        self._beat_at = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._beat(), name="pulse")

    async def close(self) -> None:
        """Stop looking."""
        await end_tasks(self._task)

    @property
    def alive(self) -> bool:
        """Whether the loop turns."""
        return asyncio.get_running_loop().time() - self._beat_at < STALLED_S

    @property
    def redis_recent(self) -> bool:
        """Whether Redis has answered within the grace period."""
        return asyncio.get_running_loop().time() - self._redis_at < self._grace_s

    @property
    def ready(self) -> bool:
        """Whether new requests should come here."""
        return self.redis_recent and not self.draining

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = self._beat_at = loop.time()
            try:
                await self._link.call("PING", deadline_s=EVERY_S)
                self._redis_at = loop.time()
            except (TailraceError, ReplyError):
                pass  # it is the time since the last answer that counts
            pause = max(0.0, started + EVERY_S - loop.time())
            asleep = loop.time()
            await asyncio.sleep(pause)
            self._metrics.loop_lag.set(max(0.0, loop.time() - asleep - pause))
