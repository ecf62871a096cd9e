"""Owns a gateway's one live link and its tails: one tail per message that somebody watches.

Whatever the number of viewers, a gateway has one subscription link and one command link to Redis. The link's
pushes go to their tail at once, in the link's own read callback.

Tasks, all owned by the hub and cancelled by `close`: the ticker (once a second: comment lines for quiet
connections, time-outs of stalled sockets, rotation, looks at silent tails), the reads of tails and pages, and what
is to be done for a response that has been left by its request's task (`gateway.live.delivery`).
What is lost when the process dies: nothing that the log does not have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from random import uniform
from typing import Any, Protocol, TypeVar

from gateway.live.channel import Channel
from gateway.live.follower import Outcome
from gateway.live.pages import Pages
from gateway.live.tail import Tail
from gateway.live.turns import in_turns
from gateway.protocols.base import Wire
from shared.errors import TailraceError, Unavailable
from shared.ids import MessageRef
from shared.link import Link, Target
from shared.log.log import Log
from shared.log.types import Meta
from shared.tasks import end_tasks

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_PATIENCE = 4
"""Upper bound of `Tail.patience`."""


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Times and bounds of a hub; seconds and bytes."""

    heartbeat_s: float = 10.0
    send_timeout_s: float = 30.0
    viewer_buffer_bytes: int = 262_144
    direct_writes: bool = True
    rotate_s: float = 600.0
    lease_s: float = 8.0
    redis_gone_s: float = 20.0
    redispatch_every_s: float = 5.0
    tick_s: float = 1.0
    subscribe_timeout_s: float = 5.0


class Watched(Protocol):
    """A connection under the ticker's care: a viewer, or something else that stays open."""

    wire: Wire
    break_at: float

    @property
    def last_write(self) -> float:
        """When something was written last, by the loop's clock."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""

    def stuck(self, now: float) -> float:
        """Return for how long the socket has taken nothing of what waits for it."""

    def ping(self, line: bytes) -> None:
        """Put out a sign of life if nothing else is on its way."""

    def stop(self, outcome: Outcome) -> None:
        """End at the next event border."""

    def abandon(self) -> None:
        """End now."""


class Hub:
    """The live side of a gateway."""

    def __init__(
        self,
        log_: Log,
        resolve: Callable[[], Awaitable[Target]],
        settings: HubSettings,
        *,
        redispatch: Callable[[Meta], Awaitable[None]] | None = None,
    ) -> None:
        """`redispatch` asks for a worker for a message that nobody works on; any watcher may heal."""
        self.settings = settings
        self.log = log_
        self.pages = Pages(log_, self.spawn)
        self._redispatch = redispatch
        self._link = Link(resolve, name="hub", on_push=self._on_push, on_read=self._flush, on_up=self._on_up)
        self._tails: dict[bytes, Tail] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._down_since: float | None = None
        self._restored_by = 0.0
        self._asked: dict[MessageRef, float] = {}
        self.viewers: set[Watched] = set()
        self.slow = 0
        """How many viewers were cut off because their sockets took nothing for `send_timeout_s`."""
        self._listeners: dict[bytes, set[Callable[[], None]]] = {}
        self._dirty: list[Channel] = []
        self._in_read = False
        self._loop = asyncio.get_running_loop()
        self._drained_at = float("inf")

    async def open(self) -> None:
        """Start the link and the ticker; Redis need not be there yet."""
        await self._link.open()
        self._ticker = asyncio.create_task(self._tick_forever(), name="hub-ticker")

    async def close(self) -> None:
        """Drop what is still open, and end all tasks and the link."""
        for viewer in tuple(self.viewers):
            viewer.abandon()
        await end_tasks(*self._tasks, self._ticker)
        await self._link.close()

    @property
    def live(self) -> bool:
        """Whether the live link stands."""
        return self._link.up

    @property
    def tails(self) -> int:
        """How many messages are being tailed."""
        return len(self._tails)

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Run `work` in a task of the hub's, which logs its failure and cancels it when the hub closes."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("hub task failed", exc_info=error)

    # -- tails

    @asynccontextmanager
    async def tail(self, ref: MessageRef) -> AsyncIterator[Tail]:
        """Lend the message's tail, as `borrow` does, while the block lasts."""
        tail = await self.borrow(ref)
        try:
            yield tail
        finally:
            self.give_back(tail)

    async def borrow(self, ref: MessageRef) -> Tail:
        """Lend the message's tail, subscribed and positioned; the last one to give it back ends it.

        Raises `Unavailable` if the live link does not come up in time.
        """
        tail = self._take(ref)
        try:
            await tail.wait_opened(self.settings.subscribe_timeout_s)
        except TimeoutError:
            self.give_back(tail)
            raise Unavailable("the live link to Redis is down") from None
        except BaseException:
            self.give_back(tail)
            raise
        return tail

    def _take(self, ref: MessageRef) -> Tail:
        tail = Tail(ref, self.log, self.spawn, self._on_pending)
        tail = self._tails.setdefault(tail.channel_name.encode(), tail)
        tail.borrowers += 1
        if tail.borrowers == 1:
            self._link.post("SUBSCRIBE", tail.channel_name)
            self.spawn(tail.open())
        return tail

    def give_back(self, tail: Tail) -> None:
        """Take back what `borrow` has lent, once; end the tail if nobody else has it."""
        tail.borrowers -= 1
        if tail.borrowers == 0:
            del self._tails[tail.channel_name.encode()]
            tail.close()
            self._link.post("UNSUBSCRIBE", tail.channel_name)

    @contextmanager
    def watching(self, viewer: Watched) -> Iterator[None]:
        """Keep `viewer` under the ticker's care while the block lasts."""
        self.viewers.add(viewer)
        try:
            yield
        finally:
            self.viewers.discard(viewer)

    @contextmanager
    def listening(self, channel: str, hear: Callable[[], None]) -> Iterator[None]:
        """Call `hear` whenever something is published on `channel`, and whenever something may have been missed."""
        name = channel.encode()
        listeners = self._listeners.setdefault(name, set())
        if not listeners:
            self._link.post("SUBSCRIBE", channel)
        listeners.add(hear)
        try:
            yield
        finally:
            listeners.discard(hear)
            if not listeners:
                del self._listeners[name]
                self._link.post("UNSUBSCRIBE", channel)

    def _on_pending(self, channel: Channel) -> None:
        if not self._dirty and not self._in_read:
            self._loop.call_soon(self._flush)
        self._dirty.append(channel)

    def _flush(self) -> None:
        """Hand out what a read of the link, or a turn of the loop, has brought."""
        self._in_read = False
        dirty = self._dirty
        if not dirty:
            return
        self._dirty = []
        now = self._loop.time()
        for channel in dirty:
            channel.flush(now)

    def break_at(self, wire: Wire) -> float:
        """Return when a connection that begins now shall break: jittered, so that nothing happens all at once."""
        if wire.breaks != "often":
            return self._drained_at
        now = asyncio.get_running_loop().time()
        return min(now + self.settings.rotate_s * uniform(0.75, 1.25), self._drained_at)

    def drain(self, window_s: float) -> None:
        """Break every connection within `window_s`: streams spread over it, what waits for an end last."""
        now = asyncio.get_running_loop().time()
        self._drained_at = now + window_s
        for viewer in self.viewers:
            within = window_s if viewer.wire.breaks == "last" else uniform(0.0, window_s)
            viewer.break_at = min(viewer.break_at, now + within)

    # -- the link

    def _on_push(self, push: list[Any]) -> None:
        self._in_read = True
        kind, name, payload = push
        tail = self._tails.get(name)
        if tail is None:
            for hear in tuple(self._listeners.get(name, ())):
                hear()
        elif kind == b"message":
            tail.hear(payload)
        elif kind == b"subscribe":
            tail.on_subscribed()

    @property
    def restoring(self) -> bool:
        """Whether owners may still be writing back what Redis has lost: it was away a moment ago."""
        return self._loop.time() < self._restored_by

    def _on_up(self) -> None:
        if self._link.stats.connects > 1:
            self._restored_by = self._loop.time() + self.settings.lease_s
        names = [*self._tails, *self._listeners]
        for at in range(0, len(names), 500):
            self._link.post("SUBSCRIBE", *names[at : at + 500])

    # -- the ticker

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.tick_s)
            try:
                self._watch_link(self._loop.time())
                self.pages.forget()
                await in_turns(self.viewers, self._look_after)
                await in_turns(self._tails.values(), self._listen_for)
            except Exception:
                log.exception("hub tick failed")

    def _look_after(self, viewer: Watched) -> None:
        if viewer not in self.viewers:
            return  # left since this tick began
        now, settings = self._loop.time(), self.settings
        if viewer.gone:
            viewer.stop("left")
        elif viewer.stuck(now) > settings.send_timeout_s:
            self.slow += 1
            viewer.abandon()
        elif now >= viewer.break_at:
            viewer.stop("broken")
        elif now - viewer.last_write >= settings.heartbeat_s:
            viewer.ping(viewer.wire.ping if self._down_since is None else viewer.wire.stalled)

    def _listen_for(self, tail: Tail) -> None:
        now, silent = self._loop.time(), self.settings.lease_s / 2
        if tail.heard:
            tail.heard, tail.heard_at, tail.patience = False, now, 1
        elif tail.checking or tail.ended or not tail.borrowers:
            return  # looked at already, over, or given back since this tick began
        elif now - tail.heard_at > silent * tail.patience:
            tail.checking = True
            self.spawn(self._check(tail))

    def _watch_link(self, now: float) -> None:
        if self._link.up:
            self._down_since = None
            if not any(task.get_name() == "hub-ping" for task in self._tasks):
                self.spawn(self._ping_link(), name="hub-ping")
            return
        if self._down_since is None:
            self._down_since = now
        if now - self._down_since > self.settings.redis_gone_s:
            for viewer in tuple(self.viewers):
                viewer.stop("broken")

    async def _ping_link(self) -> None:
        """A half-open connection brings no pushes and no error; only a question shows it."""
        with suppress(TailraceError):
            await self._link.call("PING", deadline_s=3.0)

    async def _check(self, tail: Tail) -> None:
        """The link has been silent: look at the record, then (through the tail) at the log, in that order."""
        try:
            meta = await self.log.meta(tail.ref)
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
        if self._redispatch is None or now - self._asked.get(meta.ref, -1e9) < self.settings.redispatch_every_s:
            return
        if len(self._asked) > 10_000:
            self._asked.clear()
        self._asked[meta.ref] = now
        log.info("asking for a worker", extra={**meta.ref.fields, "state": meta.state})
        await self._redispatch(meta)
