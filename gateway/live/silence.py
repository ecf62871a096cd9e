"""Owns the looks at messages that have been silent for longer than a living owner is: at the record first, then
(through the tail) at the log, since a lost publication shows nowhere else. Whoever finds that nobody works on a message
asks for a worker; any gateway that watches it may.

The looks are tasks of the hub, at most one a tail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.live.tail import Tail
from shared.errors import TailraceError
from shared.ids import MessageRef
from shared.log.log import Log
from shared.log.types import Meta

log = logging.getLogger(__name__)

MOST_PATIENCE = 4
"""Upper bound of `Tail.patience`."""
MOST_REMEMBERED = 10_000
"""Messages for which we know when we last asked for a worker."""

Redispatch = Callable[[Meta], Awaitable[None]]


class Silence:
    """Notices it, and looks into it."""

    def __init__(
        self,
        store: Log,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        lease_s: float,
        redispatch: Redispatch | None,
        redispatch_every_s: float,
    ) -> None:
        """`redispatch` asks for a worker, for one message at most once in `redispatch_every_s`."""
        self._store = store
        self._spawn = spawn
        self._silent_s = lease_s / 2
        self._redispatch = redispatch
        self._redispatch_every_s = redispatch_every_s
        self._asked: dict[MessageRef, float] = {}

    def listen_for(self, tail: Tail) -> None:
        """Look at the tail's message if nothing was heard of it for too long."""
        now = asyncio.get_running_loop().time()
        if tail.heard:
            tail.heard, tail.heard_at, tail.patience = False, now, 1
        elif tail.checking or tail.ended or not tail.borrowers:
            return  # looked at already, over, or given back since this tick began
        elif now - tail.heard_at > self._silent_s * tail.patience:
            tail.checking = True
            self._spawn(self._check(tail))

    async def _check(self, tail: Tail) -> None:
        try:
            meta = await self._store.meta(tail.ref)
            tail.heard_at = asyncio.get_running_loop().time()
            tail.compare(meta)
            if meta is not None and not meta.terminal and not meta.leased:
                # A reaper sees to it too; thousands that wait must not cost thousands of looks.
                tail.patience = min(2 * tail.patience, MOST_PATIENCE)
                await self._ask_for_worker(meta)
            else:
                tail.patience = 1
        except TailraceError:
            pass  # Redis is away; the ticker comes again
        finally:
            tail.checking = False

    async def _ask_for_worker(self, meta: Meta) -> None:
        now = asyncio.get_running_loop().time()
        if self._redispatch is None or now - self._asked.get(meta.ref, -1e9) < self._redispatch_every_s:
            return
        if len(self._asked) > MOST_REMEMBERED:
            self._asked.clear()
        self._asked[meta.ref] = now
        log.info("asking for a worker", extra={**meta.ref.fields, "state": meta.state})
        await self._redispatch(meta)
