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
from typing import Any, TypeVar

from gateway.live.care import Care, Watched
from gateway.live.channel import Channel
from gateway.live.pages import Pages
from gateway.live.silence import Redispatch, Silence
from gateway.live.tail import Tail
from gateway.live.turns import in_turns
from gateway.protocols.base import Wire
from shared.errors import TailraceError, Unavailable
from shared.ids import MessageRef
from shared.link import Link, Target
from shared.log.log import Log
from shared.tasks import end_tasks

log = logging.getLogger(__name__)

T = TypeVar("T")


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


class Hub:
    """The live side of a gateway."""

    def __init__(
        self,
        store: Log,
        resolve: Callable[[], Awaitable[Target]],
        settings: HubSettings,
        *,
        redispatch: Redispatch | None = None,
    ) -> None:
        """`redispatch` asks for a worker for a message that nobody works on; any watcher may heal."""
        self.settings = settings
        self.log = store
        self.pages = Pages(store, self.spawn)
        self._link = Link(resolve, name="hub", on_push=self._on_push, on_read=self._flush, on_up=self._on_up)
        self._tails: dict[bytes, Tail] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._ping: asyncio.Task[None] | None = None
        self._restored_by = 0.0
        self.viewers: set[Watched] = set()
        self.slow = 0
        """How many viewers were cut off because their sockets took nothing for `send_timeout_s`."""
        self._listeners: dict[bytes, set[Callable[[], None]]] = {}
        self._dirty: list[Channel] = []
        self._in_read = False
        self._loop = asyncio.get_running_loop()
        self._drained_at = float("inf")
        self._care = Care(
            self.viewers,
            heartbeat_s=settings.heartbeat_s,
            send_timeout_s=settings.send_timeout_s,
            redis_gone_s=settings.redis_gone_s,
            cut_off=self._cut_off,
        )
        self._silence = Silence(
            store,
            self.spawn,
            lease_s=settings.lease_s,
            redispatch=redispatch,
            redispatch_every_s=settings.redispatch_every_s,
        )

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

    def _cut_off(self, viewer: Watched) -> None:
        self.slow += 1
        viewer.abandon()

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
                self._watch_link()
                self.pages.forget()
                await in_turns(self.viewers, self._care.look_after)
                await in_turns(self._tails.values(), self._silence.listen_for)
            except Exception:
                log.exception("hub tick failed")

    def _watch_link(self) -> None:
        self._care.link_is(self._link.up)
        if self._link.up and (self._ping is None or self._ping.done()):
            self._ping = self.spawn(self._ping_link(), name="hub-ping")

    async def _ping_link(self) -> None:
        """Ask for a sign of life: a half-open connection brings no pushes and no error, so only a question shows it."""
        with suppress(TailraceError):
            await self._link.call("PING", deadline_s=3.0)
