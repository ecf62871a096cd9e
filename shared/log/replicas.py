"""Owns waiting for replicas: one WAIT for many callers, and none for a while after one that waited in vain.

A WAIT stops the connection it is sent on, and with it every append and heartbeat behind it. It covers the writes of
that connection alone, so each server of a cluster is waited for on its own.
"""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary

from shared.commands import Commands
from shared.errors import Unavailable

log = logging.getLogger(__name__)

WAIT_MS = 200
PAUSE_S = 1.0


class ReplicaWait:
    """Call it after a write: it returns when the replicas have that write, or will not have it in time.

    Raises `Unavailable` if the server is no primary any more, or the connection that wrote is lost: the write may be,
    too, and is to be repeated.
    """

    def __init__(self, link: Commands, replicas: int) -> None:
        self._link = link
        self._replicas = replicas
        self._waits: WeakKeyDictionary[Commands, _LaneWait] = WeakKeyDictionary()

    async def __call__(self, key: str) -> None:
        """`key`: the one that was written."""
        for lane in self._link.lanes(key):
            wait = self._waits.get(lane)
            if wait is None:
                wait = self._waits[lane] = _LaneWait(self._replicas)
            await wait(lane)


class _LaneWait:
    """The same for one connection, which it must not keep: that would keep the dictionary's key."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas
        self._lock = asyncio.Lock()
        self._asked = 0
        self._covered = 0
        self._silent_until = 0.0

    async def __call__(self, lane: Commands) -> None:
        self._asked += 1
        ticket, connection = self._asked, lane.stats.connects
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._covered >= ticket or now < self._silent_until:
                return
            covers = self._asked  # all of these have their write behind them
            reached = await lane.call("WAIT", self._replicas, WAIT_MS)
            if lane.stats.connects != connection:  # the link asked again, on one that has written nothing
                raise Unavailable("the connection was lost before the replicas had the write")
            self._covered = covers
            if reached < self._replicas:
                self._silent_until = asyncio.get_running_loop().time() + PAUSE_S
                log.warning("replicas behind", extra={"wanted": self._replicas, "reached": reached})
