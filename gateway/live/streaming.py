"""Owns the streaming response: finds the message, checks the cursor, runs a viewer, ends or breaks the body."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.live.expiry import UntilExpiry
from gateway.live.finding import find_message, restoring_s
from gateway.live.hub import Borrowed, Hub
from gateway.live.tail import Tail
from gateway.live.transport import BrokenOff, Connection, connection_of
from gateway.live.viewer import FutureCursor, Outcome, Sink, Viewer
from gateway.protocols import WIRES
from gateway.protocols.base import Wire
from shared.cursor import Cursor
from shared.errors import Gone, InvalidCursor, Unavailable
from shared.ids import MessageRef
from shared.log.so_far import read_so_far
from shared.message import Message

TAKEN_WITHIN_S = 5.0
"""How long the last bytes may take to be acknowledged before we think that they were not received."""


class HttpSink:
    """One HTTP response as a viewer's sink."""

    __slots__ = ("_connection", "_headers", "_may_write", "_prologue", "_send", "direct", "started")

    direct: Connection | None

    def __init__(
        self, scope: Scope, send: Send, headers: Mapping[str, str], prologue: bytes, *, direct: bool = True
    ) -> None:
        """`direct=False` keeps to plain ASGI, whatever the server."""
        self.started = False
        self._send = send
        self._headers = headers
        self._prologue = prologue
        self._connection = connection_of(scope)
        self._may_write = direct and self._connection is not None
        self.direct = None

    @property
    def backlog(self) -> int:
        return 0 if self.direct is None else self.direct.backlog

    @property
    def gone(self) -> bool:
        return self._connection is not None and self._connection.gone

    @property
    def watched(self) -> bool:
        """Whether `gone` can tell; otherwise somebody must listen to the server."""
        return self._connection is not None

    async def send(self, data: bytes) -> None:
        if not self.started:
            self.started = True
            headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            data = self._prologue + data
        # An empty body message still waits until the socket has room again.
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        if self._may_write and self._connection is not None and self._connection.chunked:
            self.direct = self._connection

    async def finish(self) -> None:
        """End the body cleanly: only ever after the terminal entry."""
        await self.send(b"")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def taken(self) -> bool:
        """Whether the client has, as far as the network tells, taken everything; waits for it a moment."""
        return self._connection is None or await self._connection.wait_taken(TAKEN_WITHIN_S)

    def break_off(self) -> None:
        """Close the connection without a clean end of body, after what is already written."""
        if self._connection is None:
            raise BrokenOff
        self._connection.close()

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()


class LogStream:
    """An ASGI response that delivers a message's log on a wire.

    after: the last entry that the client has. strict: a cursor that is not in the log is the caller's error
    (400) instead of a `reset` and a replay. void: the client named a cursor that cannot be ours: begin with a
    `reset`. skip: how many events the client has, on wires that count. snapshot: begin with the folded message.
    """

    __slots__ = ("_after", "_headers", "_hub", "_ref", "_retry_ms", "_skip", "_snapshot", "_strict", "_void", "_wire")

    def __init__(
        self,
        hub: Hub,
        ref: MessageRef,
        *,
        wire: str | Wire = "native",
        after: Cursor | None = None,
        strict: bool = False,
        void: bool = False,
        skip: int = 0,
        snapshot: bool = False,
        headers: Mapping[str, str] | None = None,
        retry_ms: int = 1000,
    ) -> None:
        self._hub = hub
        self._ref = ref
        self._wire: Wire = WIRES[wire] if isinstance(wire, str) else wire
        self._after = after
        self._strict = strict
        self._void = void
        self._skip = skip
        self._snapshot = snapshot
        self._headers = {**self._wire.headers, **(headers or {})}
        self._retry_ms = retry_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await self.ready():
            await Response(status_code=204)(scope, receive, send)
            return
        prologue = self._wire.prologue(self._retry_ms)
        sink = HttpSink(scope, send, self._headers, prologue, direct=self._hub.settings.direct_writes)
        async with self.tail() as tail:
            await self._deliver(tail, sink, scope, receive)

    async def ready(self) -> bool:
        """Return whether there is anything to deliver; raise what the request cannot be served for."""
        meta = await find_message(self._hub, self._ref, patient=self._after is not None or self._skip > 0)
        if meta.terminal:
            if self._after == meta.cursor:
                return False
            if not await self._hub.log.read(self._ref, None, 1):
                raise Gone("the replay period is over; the final message can still be read")
        await self._check_cursor()
        return True

    def tail(self) -> Borrowed:
        """Borrow the message's tail."""
        return self._hub.tail(self._ref)

    async def begin(self, tail: Tail, sink: Sink) -> Viewer:
        """Send what comes before the log's own entries, and return the viewer for those."""
        hub = self._hub
        if self._void and self._wire.reset is not None:
            await sink.send(self._wire.reset)
        return Viewer(
            tail,
            hub.pages,
            self._wire,
            sink,
            cursor=await self._send_snapshot(sink) if self._snapshot else self._after,
            skip=self._skip,
            buffer_bytes=hub.settings.viewer_buffer_bytes,
            break_at=hub.break_at(self._wire),
            restoring_s=restoring_s(hub),
        )

    async def _check_cursor(self) -> None:
        if self._strict and self._after is not None:
            found = await self._hub.log.read(self._ref, self._after, 1)
            if not found or found[0].cursor != self._after:
                raise InvalidCursor("the message has no such entry")

    async def _deliver(self, tail: Tail, sink: HttpSink, scope: Scope, receive: Receive) -> None:
        viewer = await self.begin(tail, sink)
        # A server that we know tells by itself when the client leaves; saves a task a viewer.
        listening = None if sink.watched else asyncio.create_task(_listen(receive, viewer))
        try:
            with self._hub.watching(viewer), UntilExpiry(scope, viewer) as expiry:
                outcome = await viewer.run()
                await self._close(sink, receive, outcome, expiry.last_words)
            if outcome == "ended":
                await self._settle(sink)
        except FutureCursor:
            raise InvalidCursor("the message has fewer events than that") from None
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.wait([listening])

    async def _close(self, sink: HttpSink, receive: Receive, outcome: Outcome, last_words: bytes) -> None:
        """End or break the body. Who takes nothing more is not waited for: it would hold what it was sent for ever."""
        try:
            async with asyncio.timeout(self._hub.settings.send_timeout_s):
                if outcome == "ended":
                    await sink.finish()
                elif outcome == "broken":
                    await sink.send(last_words)
                    sink.break_off()
                    await _disconnected(receive)
        except TimeoutError:
            sink.abort()

    async def _settle(self, sink: HttpSink) -> None:
        """Write down that the end was received, for wires that ask for it."""
        if not self._wire.settles:
            return
        with suppress(Unavailable):  # then it is delivered once more, to whoever asks next
            meta = await self._hub.log.meta(self._ref)
            # Who is shown an error hangs up at once, which looks like a lost connection.
            failed = meta is not None and meta.state == "failed"
            if failed or await sink.taken():
                await self._hub.log.tell(self._ref)

    async def _send_snapshot(self, sink: Sink) -> Cursor | None:
        """Send the fold of everything but a terminal entry, which follows as itself; return its cursor."""
        if self._wire.snapshot is None:
            raise InvalidCursor("this stream has no snapshots")
        so_far = await read_so_far(self._hub.log, self._ref, with_end=False)
        if so_far.last is None:
            return None
        await sink.send(self._wire.snapshot(await so_far.fold(Message()), so_far.last))
        return so_far.last.cursor


async def _listen(receive: Receive, viewer: Viewer) -> None:
    await _disconnected(receive)
    viewer.stop("left")


async def _disconnected(receive: Receive) -> None:
    """Wait for the client to leave."""
    while (await receive())["type"] != "http.disconnect":
        pass
