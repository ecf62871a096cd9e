"""Owns one connection to Redis: bytes out joined per turn of the loop, replies matched in order, pushes told apart.

No tasks; at most one timer, for the earliest deadline of all commands: a timer a command would cost more than the
command. It ends with its connection; `shared.link` makes the next one.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, cast

import hiredis

from shared.commands import Arg

ErrorReply = hiredis.ReplyError
"""An error that Redis answered."""

SILENCE_S = 1.0
"""A connection that owes replies and has been silent for this long may be dropped; a heartbeat's deadline is longer."""
_PUSHES = frozenset((b"message", b"subscribe", b"unsubscribe"))


class Lost(Exception):
    """Raised when the connection ended before the reply came, or the reply did not come in time.

    With what the server said of it unasked, if it did: too many clients, protected mode.
    """


def pack(args: tuple[Arg, ...]) -> bytes:
    """Return a command as it goes over the wire."""
    return hiredis.pack_command(args)  # type: ignore[arg-type,no-any-return]  # its stub types a tuple of one


_MULTI, _EXEC = pack(("MULTI",)), pack(("EXEC",))


class Pipeline(asyncio.Protocol):
    """One connection's life."""

    def __init__(
        self,
        on_push: Callable[[list[Any]], None] | None,
        on_read: Callable[[], None] | None,
    ) -> None:
        self._reader = hiredis.Reader()
        self._on_push = on_push
        self._on_read = on_read
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._look_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._out: list[bytes] = []
        self._silent_since = 0.0
        self._said: tuple[str, ...] = ()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._ignored: tuple[asyncio.Future[Any], float] = (self._loop.create_future(), math.inf)
        """Waits for replies that nobody wants: it is done already."""
        self._ignored[0].cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            reply, _ = self._waiting.popleft()
            if not reply.done():
                reply.set_exception(Lost(*self._said))
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._silent_since = self._loop.time()
        self._reader.feed(data)
        gets, on_push = self._reader.gets, self._on_push
        while (reply := gets()) is not False:  # nil is None, nothing yet is False
            if on_push is not None and type(reply) is list and reply and reply[0] in _PUSHES:
                on_push(reply)
                continue
            try:
                waiting, _ = self._waiting.popleft()
            except IndexError:  # a server that does not want us says so unasked, and hangs up
                self._said = (str(reply)[:200],)
                self.abort()
                return
            if not waiting.done():
                if isinstance(reply, ErrorReply):
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
            reply.set_exception(Lost(*self._said))
            return reply
        if not self._waiting:
            self._silent_since = self._loop.time()
        self._waiting.append((reply, end))
        if end < self._look_at:
            self._look_again(end)
        self.send(packed)
        return reply

    def transact(self, packed: Sequence[bytes], end: float) -> asyncio.Future[list[Any]]:
        """Send packed commands as one transaction, as `call`; the future gets all of their replies at once."""
        if self._transport is not None:
            if not self._waiting:
                self._silent_since = self._loop.time()
            self.send(_MULTI)
            for each in packed:
                self.send(each)
            self._waiting.extend(repeat(self._ignored, 1 + len(packed)))  # "OK", and "QUEUED" for each
        return self.call(_EXEC, end)

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
                reply.set_exception(Lost(*self._said))
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
