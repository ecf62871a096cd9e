"""Owns the hot connection to Redis: one socket, every command pipelined, replies and pushes parsed by hiredis.

redis-py takes a connection and a task per command; at thousands of appends and fan-outs a second that is
most of the bill. A process holds two links per Redis: one for commands, one for subscriptions.

Tasks: one `_keep` task per link (connects, greets, waits for the loss of the connection, again), owned by
the link and cancelled by `close`. All commands that are sent in one turn of the event loop leave in one write.
A command whose connection is lost before its reply is sent again until its deadline: every caller's
commands are idempotent (the log's scripts are built so; see PROTOCOL.md).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1
from typing import Any, cast

import hiredis

from shared.commands import Arg, LinkStats
from shared.errors import StorageFull, Unavailable

log = logging.getLogger(__name__)

Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


ErrorReply = hiredis.ReplyError
"""An error that Redis answered, as `Link.attempt` raises it."""


def pack(args: tuple[Arg, ...]) -> bytes:
    """Return a command as it goes over the wire."""
    return hiredis.pack_command(args)  # type: ignore[arg-type,no-any-return]  # its stub types a tuple of one


RETRIED = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "UNBLOCKED", "MISCONF")
"""Error replies that pass by themselves; READONLY and MASTERDOWN also mean: ask again who the master is."""


SILENCE_S = 1.0
"""A connection that owes replies and has been silent for this long may be dropped; a heartbeat's deadline is longer."""


class ReplyError(Exception):
    """Raised when Redis answers a command with an error that repeating will not mend."""


class Lost(Exception):
    """Raised when the connection ended before the reply came, or the reply did not come in time."""


@lru_cache(maxsize=64)
def digest_of(source: str) -> str:
    """Return the name under which Redis knows a script that it has seen."""
    return sha1(source.encode(), usedforsecurity=False).hexdigest()


def raise_unless_passing(text: str) -> None:
    """Return if an error reply passes by itself; raise what it means otherwise."""
    # A script's error names the inner one: "READONLY You can't write ... script: ..."
    if text.startswith("OOM") or "-OOM" in text or "OOM command not allowed" in text:
        raise StorageFull("Redis is out of memory")
    if not any(text.startswith(word) or f"-{word}" in text for word in RETRIED):
        raise ReplyError(text)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect and how to introduce oneself; made anew for every attempt to connect."""

    address: Address
    username: str | None = None
    password: str | None = None
    database: int = 0
    tls: ssl.SSLContext | None = None


class _Wire(asyncio.Protocol):
    """One connection's life: bytes out joined per loop turn, replies matched in order.

    Deadlines of all commands share one timer, set for the earliest: a timer a command would cost more than the command.
    """

    def __init__(
        self,
        on_push: Callable[[list[Any]], None] | None,
        on_read: Callable[[], None] | None,
        stats: LinkStats,
    ) -> None:
        self._reader = hiredis.Reader()
        self._on_push = on_push
        self._on_read = on_read
        self._stats = stats
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._look_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._out: list[bytes] = []
        self._silent_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            reply, _ = self._waiting.popleft()
            if not reply.done():
                reply.set_exception(Lost())
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._silent_since = self._loop.time()
        self._reader.feed(data)
        gets, on_push = self._reader.gets, self._on_push
        while (reply := gets()) is not False:  # nil is None, nothing yet is False
            if on_push is not None and type(reply) is list and reply and reply[0] in _PUSHES:
                self._stats.pushes += 1
                on_push(reply)
                continue
            waiting, _ = self._waiting.popleft()
            if not waiting.done():
                if isinstance(reply, hiredis.ReplyError):
                    waiting.set_exception(reply)
                else:
                    waiting.set_result(reply)
        if self._on_read is not None:
            self._on_read()

    def send(self, packed: bytes) -> None:
        """Queue bytes for this turn's write."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)

    def call(self, packed: bytes, end: float = math.inf) -> asyncio.Future[Any]:
        """Send one packed command; the future gets its reply, or `Lost` if that has not come by the loop's time `end`.

        The connection may be dead then, and is dropped if it looks so. But one caller's short deadline must not cut off
        all the others, who would send everything again to a Redis that is merely slow.
        """
        reply: asyncio.Future[Any] = self._loop.create_future()
        if self._transport is None:
            reply.set_exception(Lost())
            return reply
        if not self._waiting:
            self._silent_since = self._loop.time()
        self._waiting.append((reply, end))
        if end < self._look_at:
            self._look_again(end)
        self.send(packed)
        return reply

    def _look_again(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._look_at = at
        self._timer = self._loop.call_at(at, self._end_overdue) if at < math.inf else None

    def _end_overdue(self) -> None:
        now, overdue, earliest = self._loop.time(), False, math.inf
        for reply, end in self._waiting:
            if reply.done():
                continue
            if end <= now:
                overdue = True
                reply.set_exception(Lost())
            else:
                earliest = min(earliest, end)
        self._look_again(earliest)
        if overdue:
            self.abort_if_silent(SILENCE_S)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None:
            self._transport.write(b"".join(out))

    def abort_if_silent(self, for_s: float) -> None:
        """Drop the connection if replies are due and it has brought nothing for so long."""
        if self._waiting and self._loop.time() - self._silent_since >= for_s:
            self.abort()

    def abort(self) -> None:
        """Drop the connection now; whoever waits for a reply gets `Lost`."""
        if self._transport is not None:
            self._transport.abort()


def heed_cancellation() -> None:
    """Raise `CancelledError` if our task was cancelled and that got lost; call it once a round in an endless loop.

    On Python 3.11 redis-py's writes lose a cancellation that comes in the turn of the loop in which they are done (its
    `asyncio.wait_for` does). A task that overheard it would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


ASKING = pack(("ASKING",))


def _overhear(reply: asyncio.Future[Any]) -> None:
    """Take a reply that nobody waits for."""
    if not reply.cancelled():
        reply.exception()


_PUSHES = frozenset((b"message", b"subscribe", b"unsubscribe"))


class Link:
    """A self-mending pipelined connection.

    `resolve` says where the master is, each time anew. `on_up` runs after every (re)connect before the link
    counts as up, with a function that sends a command on the new connection (resubscribing, re-validating).
    `on_push` gets every pub/sub array; a link with it must be used for subscriptions only. `on_read` is called after
    what one read has brought: what the pushes gave to do can be done there all at once, in the same turn of the loop.
    """

    def __init__(
        self,
        resolve: Callable[[], Awaitable[Target]],
        *,
        name: str,
        on_push: Callable[[list[Any]], None] | None = None,
        on_read: Callable[[], None] | None = None,
        on_up: Callable[[], None] | None = None,
        connect_timeout_s: float = 2.0,
        reply_timeout_s: float = 5.0,
    ) -> None:
        self._resolve = resolve
        self._name = name
        self._on_push = on_push
        self._on_read = on_read
        self._on_up = on_up
        self._connect_timeout_s = connect_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._wire: _Wire | None = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.stats = LinkStats()

    async def open(self, *, wait_s: float | None = None) -> None:
        """Start connecting; with `wait_s`, raise `Unavailable` unless the link is up by then."""
        self._task = asyncio.create_task(self._keep(), name=f"link-{self._name}")
        if wait_s is not None:
            await self.wait_up(wait_s)

    async def close(self) -> None:
        """Drop the connection and end the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self._wire is not None:
            self._wire.abort()

    @property
    def up(self) -> bool:
        """Whether a greeted connection stands right now."""
        return self._up.is_set()

    async def wait_up(self, timeout_s: float) -> None:
        """Wait until the link is up; raise `Unavailable` after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            raise Unavailable("Redis cannot be reached") from None

    def post(self, *args: Arg) -> None:
        """Send a command whose answer is a push (SUBSCRIBE), if the link is up; otherwise do nothing."""
        if self._wire is not None and self._up.is_set():
            self._wire.send(pack(args))

    async def call(self, *args: Arg, deadline_s: float | None = None) -> Any:
        """Send a command and return its reply, sending it again after a loss until `deadline_s` from now.

        Raises `Unavailable` at the deadline, `StorageFull` when Redis is out of memory, `ReplyError` for
        other error replies. Cancelling abandons the reply; the command may still have run.
        """
        return await self._send(pack(args), None, deadline_s)

    def script(
        self, source: str, keys: tuple[str, ...], args: tuple[Arg, ...], *, deadline_s: float
    ) -> Coroutine[Any, Any, Any]:
        """Run a Lua script by its hash, loading it where Redis does not know it; as `call` otherwise."""
        tail = (len(keys), *keys, *args)
        return self._send(pack(("EVALSHA", digest_of(source), *tail)), (source, tail), deadline_s)

    def at_once(
        self, source: str, keys: tuple[str, ...], args: tuple[Arg, ...], *, deadline_s: float
    ) -> asyncio.Future[Any] | None:
        """Send a script on the connection that stands, once; see `Commands`."""
        wire = self._wire
        if wire is None:
            return None
        self.stats.commands += 1
        packed = pack(("EVALSHA", digest_of(source), len(keys), *keys, *args))
        return wire.call(packed, wire.time() + self._patience_s(deadline_s))

    async def everywhere(self, *args: Arg) -> dict[str, Any]:
        """Send a command to the one primary; see `Commands`."""
        return {"": await self.call(*args)}

    async def scan(self, position: str, pattern: str, count: int, *, deadline_s: float) -> tuple[str, list[bytes]]:
        """Look through a part of all keys; see `Commands`."""
        after, keys = await self.call("SCAN", position, "MATCH", pattern, "COUNT", count, deadline_s=deadline_s)
        return after.decode(), keys

    def lanes(self, key: str) -> Sequence[Link]:
        """Return this link: every key's writes go over it."""
        return (self,)

    async def _send(self, packed: bytes, script: tuple[str, tuple[Arg, ...]] | None, deadline_s: float | None) -> Any:
        # The common road, which every token takes: one coroutine, one future, no timer.
        limit_s = self._reply_timeout_s if deadline_s is None else deadline_s
        wire = self._wire
        if wire is None:
            return await self._retry(packed, script, asyncio.get_running_loop().time() + limit_s, None)
        now = wire.time()
        self.stats.commands += 1
        try:
            return await wire.call(packed, now + self._patience_s(limit_s))
        except (Lost, hiredis.ReplyError) as error:
            failed = error
        return await self._retry(packed, script, now + limit_s, failed)

    async def _retry(
        self, packed: bytes, script: tuple[str, tuple[Arg, ...]] | None, end: float, failed: Exception | None
    ) -> Any:
        """Go on after a first failure; None: nothing was sent yet."""
        time, pause = asyncio.get_running_loop().time, 0.02
        while True:
            if isinstance(failed, hiredis.ReplyError):
                text = str(failed)
                if text.startswith("NOSCRIPT") and script is not None:
                    packed, failed = pack(("EVAL", script[0], *script[1])), None
                else:
                    self._judge(text)
            if failed is not None:
                if time() + pause >= end:
                    raise Unavailable("Redis did not answer in time")
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, 0.5)
            try:
                return await self.attempt(packed, end - time())
            except (Lost, hiredis.ReplyError) as error:
                failed = error

    def _judge(self, text: str) -> None:
        raise_unless_passing(text)
        if ("READONLY" in text or "MASTERDOWN" in text) and self._wire is not None:
            self._wire.abort()  # demoted: the next connect asks again who the master is

    def _patience_s(self, left_s: float) -> float:
        return max(min(left_s, self._reply_timeout_s), 0.001)

    async def attempt(self, packed: bytes, left_s: float, *, asking: bool = False) -> Any:
        """Send packed bytes once; `asking` tells a cluster's node that it was named by an ASK.

        Raises `Lost`, `ErrorReply`, and `Unavailable` if the link has not come up within `left_s`.
        """
        if not self._up.is_set():
            end = asyncio.get_running_loop().time() + left_s
            await self.wait_up(max(left_s, 0.001))
            left_s = end - asyncio.get_running_loop().time()
        wire = self._wire
        if wire is None:
            raise Lost
        self.stats.commands += 1
        if asking:  # holds for the very next command of this connection
            wire.call(ASKING).add_done_callback(_overhear)
        return await wire.call(packed, wire.time() + self._patience_s(left_s))

    async def _keep(self) -> None:
        pause = 0.05
        while True:
            heed_cancellation()  # `resolve` may ask Sentinel, through redis-py
            try:
                wire = await self._connect()
            except (OSError, TimeoutError, Lost, hiredis.HiredisError, Unavailable) as error:
                log.warning("redis link down", extra={"link": self._name, "reason": repr(error)})
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, 1.0)
                continue
            pause = 0.05
            self._wire = wire
            self.stats.connects += 1
            self._up.set()
            if self._on_up is not None:
                self._on_up()
            try:
                await wire.lost
            finally:
                self._up.clear()
                self._wire = None
                wire.abort()
                self.stats.losses += 1

    async def _connect(self) -> _Wire:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_timeout_s):
            target = await self._resolve()

            def make() -> _Wire:
                return _Wire(self._on_push, self._on_read, self.stats)

            if isinstance(target.address, str):
                _, wire = await loop.create_unix_connection(make, target.address)
            else:
                host, port = target.address
                _, wire = await loop.create_connection(make, host, port, ssl=target.tls)
            try:
                await self._greet(wire, target)
            except BaseException:
                wire.abort()
                raise
            return wire

    @staticmethod
    async def _greet(wire: _Wire, target: Target) -> None:
        if target.password is not None:
            who = (target.username,) if target.username else ()
            await wire.call(pack(("AUTH", *who, target.password)))
        if target.database:
            await wire.call(pack(("SELECT", target.database)))
        role = await wire.call(pack(("PING",)))
        if role not in (b"PONG", [b"pong", b""]):
            raise Lost
