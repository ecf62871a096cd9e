"""Owns the hot connection to Redis, however often it has to be made anew: every command pipelined over one socket.

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
import random
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1
from typing import Any

from shared.commands import Arg, LinkStats
from shared.errors import StorageFull, Unavailable
from shared.futures import ignore_failure
from shared.pipeline import ErrorReply, Lost, Pipeline, pack
from shared.tasks import end_tasks

log = logging.getLogger(__name__)

Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


RETRIED = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "UNBLOCKED", "MISCONF")
"""Error replies that pass by themselves; READONLY and MASTERDOWN also mean: ask again who the master is."""
WAIT_REFUSED = "WAIT cannot be used with replica"
"""What a server says that was demoted between a write and the WAIT for it: that write may be lost."""


class ReplyError(Exception):
    """Raised when Redis answers a command with an error that repeating will not mend."""

    @property
    def for_log(self) -> dict[str, object]:
        """What a log says of it. Redis repeats the arguments of a command that it does not know; they stay out."""
        return {"redis_said": str(self).partition(", with args beginning with")[0][:200]}


@lru_cache(maxsize=64)
def digest_of(source: str) -> str:
    """Return the name under which Redis knows a script that it has seen."""
    return sha1(source.encode(), usedforsecurity=False).hexdigest()


def raise_unless_passing(text: str) -> None:
    """Return if an error reply passes by itself; raise what it means otherwise."""
    # A script's error names the inner one: "READONLY You can't write ... script: ..."
    if text.startswith("OOM") or "-OOM" in text or "OOM command not allowed" in text:
        raise StorageFull("Redis is out of memory")
    if WAIT_REFUSED in text:
        raise Unavailable("Redis was demoted before its replicas had the write")
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


def heed_cancellation() -> None:
    """Raise `CancelledError` if our task was cancelled and that got lost; call it once a round in an endless loop.

    On Python 3.11 redis-py's writes lose a cancellation that comes in the turn of the loop in which they are done (its
    `asyncio.wait_for` does). A task that missed it would run for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


SHORTEST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
"""Between two tries to connect; it grows until a connection has stood for `STEADY_S`."""
STEADY_S = 1.0
"""A connection that ends sooner is like none: an address that leads to a demoted primary (a managed service's, for some
seconds after a failover) takes every connection and refuses every write, of all that wait for it."""
SAY_AGAIN_S = 10.0
"""How often the log is told that a link is down for the same reason as before."""
ASKING = pack(("ASKING",))
PING = pack(("PING",))
PING_EVERY_S = 5.0
"""How often a link for subscriptions asks for a sign of life if nobody asks anything over it. Nothing else has a reply,
so nothing else would show that the other end is gone."""
LOOK_EVERY_S = 1.0
"""How often a link for commands looks whether its connection has gone silent."""


class Link:
    """A self-mending pipelined connection.

    `resolve` says where the master is, each time anew. `on_up` runs after every (re)connect, when the link
    counts as up (resubscribing, re-validating).
    `on_push` gets every pub/sub array; a link with it must be used for subscriptions only. `on_read` is called after
    what one read has brought: what the pushes call for can be done there in one go, in the same turn of the loop.
    A connection that answers no PING (see `PING_EVERY_S`) within `reply_timeout_s` is lost, and so is one for commands
    that owes replies and has been silent for half of that: who waits is left the other half on the next one.
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
        self._pipeline: Pipeline | None = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._said, self._said_at = "", 0.0
        self.stats = LinkStats()

    async def open(self, *, wait_s: float | None = None) -> None:
        """Start connecting; with `wait_s`, raise `Unavailable` unless the link is up by then."""
        self._task = asyncio.create_task(self._keep(), name=f"link-{self._name}")
        if wait_s is not None:
            await self.wait_up(wait_s)

    async def close(self) -> None:
        """Drop the connection and end the task."""
        await end_tasks(self._task)
        self._task = None
        if self._pipeline is not None:
            self._pipeline.abort()

    @property
    def up(self) -> bool:
        """Whether a greeted connection stands right now."""
        return self._up.is_set()

    @property
    def crosses_slots(self) -> bool:
        """See `Commands`."""
        return True

    async def wait_up(self, timeout_s: float) -> None:
        """Wait until the link is up; raise `Unavailable` after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            raise Unavailable("Redis cannot be reached") from None

    def post(self, *args: Arg) -> None:
        """Send a command whose answer is a push (SUBSCRIBE), if the link is up; otherwise do nothing."""
        if self._pipeline is not None and self._up.is_set():
            self._pipeline.send(pack(args))

    async def call(self, *args: Arg, deadline_s: float | None = None) -> Any:
        """Send a command and return its reply, sending it again after a loss until `deadline_s` from now.

        Raises `Unavailable` at the deadline, and at once for a WAIT that came too late; `StorageFull` when Redis is out
        of memory, `ReplyError` for other error replies. Cancelling abandons the reply; the command may still have run.
        """
        return await self._send(pack(args), None, deadline_s)

    def script(
        self, source: str, keys: tuple[str, ...], args: tuple[Arg, ...], *, deadline_s: float
    ) -> Coroutine[Any, Any, Any]:
        """Run a Lua script by its hash, loading it where Redis does not know it; as `call` otherwise."""
        tail = (len(keys), *keys, *args)
        return self._send(pack(("EVALSHA", digest_of(source), *tail)), (source, tail), deadline_s)

    def standing(self, key: str) -> Pipeline | None:
        """Return the connection that stands; see `Commands`."""
        return self._pipeline

    def exec_at_once(self, key: str, packed: Sequence[bytes], *, deadline_s: float) -> asyncio.Future[list[Any]] | None:
        """Send a transaction on the connection that stands, once; see `Commands`."""
        pipeline = self._pipeline
        if pipeline is None:
            return None
        self.stats.commands += 1
        return pipeline.transact(packed, pipeline.time() + self._patience_s(deadline_s))

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
        pipeline = self._pipeline
        if pipeline is None:
            return await self._retry(packed, script, asyncio.get_running_loop().time() + limit_s, None)
        now = pipeline.time()
        self.stats.commands += 1
        try:
            return await pipeline.call(packed, now + self._patience_s(limit_s))
        except (Lost, ErrorReply) as error:
            failed = error.with_traceback(None)  # which knows this frame, and all of it would wait for the collector
        return await self._retry(packed, script, now + limit_s, failed)

    async def _retry(
        self, packed: bytes, script: tuple[str, tuple[Arg, ...]] | None, end: float, failed: Exception | None
    ) -> Any:
        """Go on after a first failure; None: nothing was sent yet."""
        time, pause = asyncio.get_running_loop().time, 0.02
        while True:
            if isinstance(failed, ErrorReply):
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
            except (Lost, ErrorReply) as error:
                failed = error.with_traceback(None)

    def _judge(self, text: str) -> None:
        demoted = "READONLY" in text or "MASTERDOWN" in text or WAIT_REFUSED in text
        if demoted and self._pipeline is not None:
            self._pipeline.abort()  # the next connect asks again who the master is
        raise_unless_passing(text)

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
        pipeline = self._pipeline
        if pipeline is None:
            raise Lost
        self.stats.commands += 1
        if asking:  # holds for the very next command of this connection
            pipeline.call(ASKING).add_done_callback(ignore_failure)
        return await pipeline.call(packed, pipeline.time() + self._patience_s(left_s))

    async def _keep(self) -> None:
        pause, time = SHORTEST_PAUSE_S, asyncio.get_running_loop().time
        while True:
            heed_cancellation()  # `resolve` may ask Sentinel, through redis-py
            up_at = float("inf")
            try:
                pipeline = await self._connect()
                up_at = time()
                await self._stand(pipeline)
            except Exception as error:  # the boundary of the task: whatever is wrong there now, it is tried again
                self._say_down(repr(error), time())
            if time() - up_at >= STEADY_S:
                pause, self._said = SHORTEST_PAUSE_S, ""
                continue
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _say_down(self, reason: str, now: float) -> None:
        if reason != self._said or now - self._said_at >= SAY_AGAIN_S:
            self._said, self._said_at = reason, now
            log.warning("redis link down", extra={"link": self._name, "reason": reason})

    async def _stand(self, pipeline: Pipeline) -> None:
        """Be up for as long as the connection lasts."""
        self._pipeline = pipeline
        self.stats.connects += 1
        self._up.set()
        try:
            if self._on_up is not None:
                self._on_up()
            await self._until_lost(pipeline)
        finally:
            self._up.clear()
            self._pipeline = None
            pipeline.abort()
            self.stats.losses += 1

    async def _until_lost(self, pipeline: Pipeline) -> None:
        """Return once the connection has ended; a half-open one that only brings pushes is found by asking it."""
        while self._on_push is not None and not pipeline.lost.done():
            asked = self.stats.commands
            await asyncio.wait((pipeline.lost,), timeout=PING_EVERY_S)
            if self.stats.commands == asked and not pipeline.lost.done():  # else its owner asks
                self.stats.commands += 1
                end = pipeline.time() + self._reply_timeout_s
                pipeline.call(PING, end).add_done_callback(ignore_failure)
        while not pipeline.lost.done():
            await asyncio.wait((pipeline.lost,), timeout=LOOK_EVERY_S)
            await asyncio.sleep(0)  # where the loop was held up, what has come meanwhile is read first
            pipeline.abort_if_silent(self._reply_timeout_s / 2)

    async def _connect(self) -> Pipeline:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_timeout_s):
            target = await self._resolve()

            def make() -> Pipeline:
                return Pipeline(self._on_push, self._on_read)

            if isinstance(target.address, str):
                _, pipeline = await loop.create_unix_connection(make, target.address)
            else:
                host, port = target.address
                _, pipeline = await loop.create_connection(make, host, port, ssl=target.tls)
            try:
                await self._greet(pipeline, target)
            except BaseException:
                pipeline.abort()
                raise
            return pipeline

    @staticmethod
    async def _greet(pipeline: Pipeline, target: Target) -> None:
        if target.password is not None:
            who = (target.username,) if target.username else ()
            await pipeline.call(pack(("AUTH", *who, target.password)))
        if target.database:
            await pipeline.call(pack(("SELECT", target.database)))
        role = await pipeline.call(PING)
        if role not in (b"PONG", [b"pong", b""]):
            raise Lost
