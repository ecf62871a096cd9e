"""Owns waiting for replicas: one WAIT for many callers, and none for a while after one that waited in vain.

A WAIT stops the connection it is sent on, and with it every append and heartbeat behind it.
"""

from __future__ import annotations

import asyncio
import logging

from shared.link import Link

log = logging.getLogger(__name__)

WAIT_MS = 200
PAUSE_S = 1.0


class ReplicaWait:
    """Call it after a write: it returns when the replicas have that write, or will not have it in time."""

    def __init__(self, link: Link, replicas: int) -> None:
        self._link = link
        self._replicas = replicas
        self._lock = asyncio.Lock()
        self._asked = 0
        self._covered = 0
        self._silent_until = 0.0

    async def __call__(self) -> None:
        self._asked += 1
        ticket = self._asked
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._covered >= ticket or now < self._silent_until:
                return
            covers = self._asked  # all of these have their write behind them
            reached = await self._link.call("WAIT", self._replicas, WAIT_MS)
            self._covered = covers
            if reached < self._replicas:
                self._silent_until = asyncio.get_running_loop().time() + PAUSE_S
                log.warning("replicas behind", extra={"wanted": self._replicas, "reached": reached})
