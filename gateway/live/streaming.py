"""Owns how a streaming response begins: finds the message, checks the cursor, makes a viewer for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.live.delivery import Delivery
from gateway.live.finding import find_message, restoring_s
from gateway.live.http_sink import HttpSink
from gateway.live.hub import Hub
from gateway.live.sink import Sink
from gateway.live.tail import Tail
from gateway.live.transport import until_left
from gateway.live.viewer import FutureCursor, Viewer
from gateway.protocols import WIRES
from gateway.protocols.base import Wire
from shared.cursor import Cursor
from shared.errors import Gone, InvalidCursor
from shared.ids import MessageRef
from shared.log.so_far import read_so_far
from shared.message import Message


class LogStream:
    """An ASGI response that delivers a message's log on a wire.

    after: the last entry that the client has. strict: a cursor that is not in the log is the caller's error
    (400) instead of a `reset` and a replay. void: the client named a cursor that cannot be ours: begin with a
    `reset`. skip: how many events the client has, on wires that count. snapshot: begin with the folded message.
    on_over: called once nothing more is delivered, unless that has failed. (The call itself may return while the stream
    goes on: see `gateway.live.delivery`.)
    """

    __slots__ = (
        "_after",
        "_headers",
        "_hub",
        "_on_over",
        "_ref",
        "_retry_ms",
        "_skip",
        "_snapshot",
        "_strict",
        "_void",
        "_wire",
    )

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
        on_over: Callable[[], object] | None = None,
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
        self._on_over = on_over or _nothing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await self.ready():
            await Response(status_code=204, headers={"cache-control": "no-store"})(scope, receive, send)
            self._on_over()
            return
        prologue = self._wire.prologue(self._retry_ms)
        sink = HttpSink(scope, send, self._headers, prologue, direct=self._hub.settings.direct_writes)
        tail = await self._hub.borrow(self._ref)
        try:
            viewer = await self.begin(tail, sink)
        except BaseException:
            self._hub.give_back(tail)
            raise
        delivery = Delivery(self._hub, tail, viewer, sink, scope, self._on_over)
        # A server that we know tells by itself when the client leaves; saves a task a viewer.
        listening = nullcontext() if sink.watched else until_left(receive, lambda: viewer.stop("left"))
        try:
            async with listening:
                await delivery.run()
        except FutureCursor:
            raise InvalidCursor("the message has fewer events than that") from None

    async def ready(self) -> bool:
        """Return whether there is anything to deliver; raise `NotFound`, `Gone` or `InvalidCursor` if it cannot."""
        meta = await find_message(self._hub, self._ref, patient=self._after is not None or self._skip > 0)
        if meta.terminal:
            if self._after == meta.cursor:
                return False
            if not await self._hub.log.read(self._ref, None, 1):
                raise Gone("the replay period is over; the final message can still be read")
        await self._check_cursor()
        return True

    def tail(self) -> AbstractAsyncContextManager[Tail]:
        """Lend the message's tail while the block lasts."""
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

    async def _send_snapshot(self, sink: Sink) -> Cursor | None:
        """Send the fold of everything but a terminal entry, which follows as itself; return its cursor."""
        if self._wire.snapshot is None:
            raise InvalidCursor("this stream has no snapshots")
        so_far = await read_so_far(self._hub.log, self._ref, with_end=False)
        if so_far.last is None:
            return None
        await sink.send(self._wire.snapshot(await so_far.fold(Message()), so_far.last))
        return so_far.last.cursor


def _nothing() -> None:
    pass
