"""Owns one WebSocket: its subscriptions, its one bounded way out, and the code it is closed with.

    reader --frames--> subscriptions --items--> outbox --frames--> writer --> socket

Every subscription is a viewer of its own with its own cursor; all wait for the same outbox, so a slow socket holds
up itself alone, and what it does not take stays in the log. Tasks: reader, writer and one a subscription, all owned
by `run` and ended before the socket is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import msgspec
from starlette.types import Message, Receive, Scope, Send

from gateway.access.auth import subprotocol_of
from gateway.access.principal import Principal
from gateway.errors import status_of
from gateway.live.feed_viewer import FeedViewer, Lines
from gateway.live.follower import Outcome
from gateway.live.outbox import Outbox
from gateway.live.stall import NO_STALL, look
from gateway.live.streaming import LogStream
from gateway.live.transport import abort_socket, taken_by_socket
from gateway.live.viewer import Viewer
from gateway.protocols import websocket as ws
from gateway.protocols.base import Wire
from gateway.services import Services
from gateway.stop import stop
from shared.cursor import Cursor
from shared.errors import Conflict, InvalidRequest, LimitReached, TailraceError, Unavailable
from shared.events import encode_json
from shared.tasks import end_tasks

log = logging.getLogger(__name__)

MOST_SUBSCRIPTIONS = 64
CLOSE_WITHIN_S = 2.0


class SubscriptionSink:
    """One subscription's way into the outbox; a sink for viewers of logs and of the feed."""

    started = True
    direct = None
    gone = False
    backlog = 0  # `send` waits for the outbox, and the session watches its socket itself

    def __init__(self, session: SocketSession, sub: str) -> None:
        self._session = session
        self._sub = sub

    @property
    def taken(self) -> int:
        return self._session.taken

    async def send(self, data: bytes) -> None:
        for frame in ws.frames(self._sub, data):
            await self._session.outbox.put(frame)

    def abort(self) -> None:
        self._session.abandon()


class SocketSession:
    """One accepted WebSocket. `run` returns when it is closed."""

    wire: Wire = ws.WEBSOCKET

    def __init__(self, services: Services, who: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        self._services = services
        self._who = who
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[tuple[int, str] | None] = self._loop.create_future()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sending = False
        self._stall = NO_STALL
        self.outbox = Outbox(services.settings.viewer_buffer_bytes)
        self.break_at = services.hub.break_at(self.wire)
        self.last_write = self._loop.time()

    async def run(self) -> None:
        """Serve the socket until either side closes it."""
        await self._receive()  # websocket.connect
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol_of(self._scope)})
        expiry = self._expire()
        own = [asyncio.create_task(self._write(), name="socket-writer")]
        try:
            await self._say(ws.Ready(self._services.settings.heartbeat_s))
            own.append(asyncio.create_task(self._read(), name="socket-reader"))
            for task in own:
                task.add_done_callback(self._failed)
            with self._services.hub.watching(self):
                verdict = await self._closed
        finally:
            if expiry is not None:
                expiry.cancel()
            await end_tasks(*own, *self._tasks.values())
        if verdict is not None:
            await self._close(*verdict)

    def _expire(self) -> asyncio.TimerHandle | None:
        if self._who.expires_at is None:
            return None
        left = self._who.expires_at - self._services.clock()
        return self._loop.call_later(max(left, 0.0), self.close, ws.WHO_ARE_YOU, "credential_expired")

    def close(self, code: int, reason: str) -> None:
        """Close with `code`; the first reason counts."""
        if not self._closed.done():
            self._closed.set_result((code, reason))

    def _failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("socket task failed", exc_info=error)
            self.close(ws.FAILED, "internal_error")

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._put_out({"type": "websocket.close", "code": code, "reason": reason})
        except TimeoutError:
            abort_socket(self._send)

    async def _put_out(self, message: Message) -> bool:
        """Give the server a message; False if there is nobody left for it, of which the reader hears, too."""
        try:
            await self._send(message)
        except (OSError, RuntimeError):
            # The client has left, or the server itself has closed (keepalive, a frame against the rules): that is a
            # RuntimeError with uvicorn until its connection is gone.
            return False
        return True

    async def _write(self) -> None:
        while True:
            frame = await self.outbox.get()
            self._sending = True
            if not await self._put_out({"type": "websocket.send", "text": frame.decode()}):
                return
            self._sending = False
            self.last_write = self._loop.time()

    async def _say(self, frame: msgspec.Struct) -> None:
        await self.outbox.put(encode_json(frame))

    # -- what the client says

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                if not self._closed.done():
                    self._closed.set_result(None)
                return
            text = message.get("text")
            try:
                frame = ws.decode_frame(text if text is not None else "")
            except msgspec.DecodeError:
                return self.close(ws.BAD_FRAME, "bad_frame")
            try:
                await self._obey(frame)
            except TailraceError as error:
                await self._fault(error, getattr(frame, "sub", None))

    async def _obey(self, frame: ws.ClientFrame) -> None:
        match frame:
            case ws.Subscribe(sub=sub, after=after, snapshot=snapshot):
                self._begin(sub, self._follow(sub, self._stream(frame, after, snapshot)))
            case ws.Resume(sub=sub, message_id=message_id, after=after):
                name = sub if sub is not None else message_id
                self._begin(name, self._follow(name, self._stream(frame, after, False)))
            case ws.FollowFeed(sub=sub, after=after):
                self._begin(sub, self._follow_feed(sub, after))
            case ws.Unsubscribe(sub=sub):
                if (task := self._tasks.pop(sub, None)) is not None:
                    task.cancel()
            case ws.StopMessage(chat_id=chat_id, message_id=message_id, sub=sub):
                state = await stop(self._services, self._who, self._who.ref(chat_id, message_id))
                await self._say(ws.Stopped(chat_id, message_id, state, sub))
            case ws.Ping():
                await self._say(ws.Pong())

    def _stream(self, frame: ws.Subscribe | ws.Resume, after: str | None, snapshot: bool) -> LogStream:
        if after is not None and snapshot:
            raise InvalidRequest("a stream begins after a cursor or from a snapshot, not both")
        ref = self._who.ref(frame.chat_id, frame.message_id)
        cursor = None if after is None else Cursor.parse(after)
        return LogStream(self._services.hub, ref, wire=ws.WEBSOCKET, after=cursor, snapshot=snapshot)

    # -- subscriptions

    def _begin(self, sub: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            if sub in self._tasks:
                raise Conflict("there is a subscription of that name")
            if len(self._tasks) >= MOST_SUBSCRIPTIONS:
                raise LimitReached(f"a socket carries {MOST_SUBSCRIPTIONS} subscriptions")
        except TailraceError:
            work.close()
            raise
        task = asyncio.create_task(work, name="socket-subscription")
        self._tasks[sub] = task
        task.add_done_callback(lambda done: self._over(sub, done))

    def _over(self, sub: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(sub) is task:
            del self._tasks[sub]
        self._failed(task)

    async def _follow(self, sub: str, stream: LogStream) -> None:
        try:
            if await stream.ready():
                async with stream.tail() as tail:
                    await self._say(ws.Opened(sub))
                    viewer: Viewer = await stream.begin(tail, SubscriptionSink(self, sub))
                    if await viewer.run() != "ended":
                        raise Unavailable("the log cannot be followed now")
            await self._say(ws.Done(sub))
        except TailraceError as error:
            await self._fault(error, sub)

    async def _follow_feed(self, sub: str, after: str | None) -> None:
        await self._say(ws.Opened(sub))
        services = self._services
        sink = SubscriptionSink(self, sub)
        await FeedViewer(services.hub, services.feed, self._who.scope, sink, _items, after=after).run()

    async def _fault(self, error: TailraceError, sub: str | None) -> None:
        status, text = status_of(error)
        await self._say(ws.Fault(error.code, text, status, error.retryable, sub))

    # -- for the hub's ticker

    @property
    def gone(self) -> bool:
        return self._closed.done()

    def stuck(self, now: float) -> float:
        self._stall = NO_STALL if not self._sending else look(self._stall, self.taken, now)
        return now - self._stall[1] if self._sending else 0.0

    @property
    def taken(self) -> int:
        """See `Sink`."""
        return taken_by_socket(self._send)

    def ping(self, line: bytes) -> None:
        self.outbox.put_if_empty(ws.PING)

    def stop(self, outcome: Outcome) -> None:
        self.close(ws.COME_BACK, "rotate")

    def abandon(self) -> None:
        abort_socket(self._send)
        self.close(ws.COME_BACK, "slow")


def _items(lines: Lines) -> bytes:
    return b"".join(ws.item(cursor, data) for cursor, data in lines)
