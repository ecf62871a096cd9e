"""Owns forgetting the messages that shall not be stored (`store: false`), each a short while after it was delivered.

Not at once: an answer can be lost on its way, and whoever then repeats the request with the same `Idempotency-Key`
must get it, not pay for another. Until then it is found by its key alone.

Tasks: `_forget_all`, owned by the forgetter and cancelled by `close`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress

from shared.errors import TailraceError
from shared.feed import Feed
from shared.ids import MessageRef
from shared.link import ReplyError, heed_cancellation
from shared.log.log import Log
from shared.tasks import end_tasks

log = logging.getLogger(__name__)

GRACE_S = 60.0
"""SDKs repeat a broken request within seconds."""
MOST_WAITING = 10_000
"""Beyond it the oldest are forgotten before their time."""
CLOSE_WITHIN_S = 2.0


class Forgetter:
    """Deletes messages when their grace is over; what fails here fails nothing, and is left to its retention."""

    def __init__(self, store: Log, feed: Feed, *, grace_s: float = GRACE_S) -> None:
        self.grace_s = grace_s
        self._store = store
        self._feed = feed
        self._waiting: deque[tuple[float, MessageRef]] = deque()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to forget."""
        self._task = asyncio.create_task(self._forget_all(), name="forgetter")

    async def close(self) -> None:
        """Stop, and forget what still waits as far as there is time; returns within `CLOSE_WITHIN_S`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await end_tasks(self._task)
                while self._waiting:
                    await self._forget(self._waiting.popleft()[1])

    def later(self, ref: MessageRef) -> None:
        """Forget this message when the grace is over. One that is not finished by then stays for its retention."""
        self._waiting.append((asyncio.get_running_loop().time() + self.grace_s, ref))
        self._more.set()

    async def _forget_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            heed_cancellation()
            self._more.clear()
            if not self._waiting:
                await self._more.wait()
            elif len(self._waiting) <= MOST_WAITING and (left := self._waiting[0][0] - loop.time()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._more.wait()
            else:
                await self._forget(self._waiting.popleft()[1])

    async def _forget(self, ref: MessageRef) -> None:
        try:
            meta = await self._store.meta(ref)
            if meta is not None and meta.terminal and await self._store.delete(ref):
                await self._feed.deleted(ref)
        except (TailraceError, ReplyError):
            log.warning("unstored response left to its retention", extra=ref.fields)
