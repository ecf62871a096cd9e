"""Owns the recording client of the WebSocket: one subscription, the native wire's cursors and rules.

What it writes down looks like a native connection's record, so the same check reads it: an accepted socket is status
200, `done` is a body's end in order, an error frame is the status that it names (or a break, if it says 503), a close
frame is a break.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time

import msgspec
from msgspec import Struct

from tests.chaos.records import Conn, Ended
from tests.chaos.viewers import ALICE, IDLE_S, Viewer
from tests.chaos.wire import Stream, open_stream

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class _Item(Struct):
    """One entry; `id` is "" for what stands in no log."""

    event: msgspec.Raw
    id: str = ""


class _Frame(Struct):
    """What of a server's frame matters here."""

    type: str
    entries: list[_Item] = []
    status: int = 0


_decode = msgspec.json.Decoder(_Frame).decode


class SocketViewer(Viewer):
    """Follows one message over sockets of its own."""

    wire = "websocket"

    async def _connect(self, conn: Conn) -> bool:
        conn.asked = self.cursor
        stream: Stream | None = None
        try:
            stream = await open_stream(self.client.balancer.port, "GET", "/ws", ALICE | _upgrade())
            async with asyncio.timeout(self.client.head_s):
                status = await stream.head()
            conn.gateway = self.client.balancer.taken.get(stream.port, "")
            conn.status, conn.head = 200 if status == 101 else status, time.time()
            if status != 101:
                conn.ended = "clean"
                return False  # no status of the handshake speaks of the message
            stream.write(frame(_TEXT, json.dumps(self._subscribe()).encode()))
            conn.ended = await self._frames(stream, conn)
        except TimeoutError:
            conn.ended = "timeout"
        except (OSError, EOFError, ValueError):
            conn.ended = "broken" if conn.status else "refused"
        finally:
            if stream is not None:
                stream.cut()
        if conn.status != 200:
            return self.refused(conn.status)
        return self.over and conn.ended in ("clean", "cut")

    def _subscribe(self) -> dict[str, object]:
        after = {"after": self.cursor} if self.cursor else {}
        return {"type": "subscribe", "sub": "s", "chat_id": self.chat, "message_id": self.message, **after}

    async def _frames(self, stream: Stream, conn: Conn) -> Ended:
        habits, rng = self.habits, self._rng
        left = rng.randrange(1, habits.most_bytes) if rng.random() < habits.cut else None
        while True:
            async with asyncio.timeout(IDLE_S):
                opcode, payload = await read_frame(stream)
            if left is not None and (left := left - len(payload)) <= 0:
                return "cut"  # in the middle of this frame: none of it counts
            if opcode == _CLOSE:
                return "broken"
            if opcode == _PING:
                stream.write(frame(_PONG, payload))
            elif opcode == _TEXT and (ended := self._hear(_decode(payload), conn)):
                return ended

    def _hear(self, said: _Frame, conn: Conn) -> Ended | None:
        now = time.time()
        for item in said.entries:
            data = bytes(item.event).decode()
            conn.events.append((now, item.id, data))
            self.take(item.id, data)
        if said.type == "error" and said.status < 500:
            conn.status = said.status
            return "clean"
        # 503 inside a socket is this wire's word for a stream that breaks: nothing was refused.
        return {"done": "clean", "error": "broken"}.get(said.type)  # type: ignore[return-value]


def _upgrade() -> dict[str, str]:
    key = base64.b64encode(os.urandom(16)).decode()
    return {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": key,
        "sec-websocket-protocol": "tailrace.v1",
    }


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame: whole, masked, shorter than 64 KiB."""
    mask = os.urandom(4)
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((0x80 | opcode,)) + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


async def read_frame(stream: Stream) -> tuple[int, bytes]:
    """Return a server's frame, put together if it came in parts; raise `EOFError` at the connection's end."""
    opcode, whole = 0, b""
    while True:
        first, second = await stream.read_exactly(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await stream.read_exactly(2 if size == 126 else 8), "big")
        whole += await stream.read_exactly(size)
        opcode = first & 0x0F or opcode
        if first & 0x80:
            return opcode, whole
