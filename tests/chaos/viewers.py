"""Owns the recording clients: each follows one message over as many connections as it takes and writes all down.

A client believes only whole events. It comes back on whatever gateway the balancer gives, with what its wire has for
a cursor, until it has seen the end in order, or is told that there is nothing. Each is one task of the load's.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.pipe import Balancer
from tests.chaos.records import Conn, Ended, Recorder
from tests.chaos.wire import Blocks, Stream, open_stream

ALICE = {"authorization": "Bearer alice-key"}
BOB = {"authorization": "Bearer bob-key"}
IDLE_S = 8.0
"""Longer than any heartbeat: a connection that is silent for so long is dead."""
HEAD_S = 12.0
RESTORE_S = 5.0
"""Beyond a lease, for how long a gateway may wait for a vanished message to come back, and a little more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a client behaves. cut: chance that a connection is cut by the client at some byte."""

    cut: float = 0.0
    most_bytes: int = 12_000
    bytes_per_s: float | None = None
    pause_s: tuple[float, float] = (0.02, 0.25)
    snapshot: bool = False


@dataclass(slots=True)
class Client:
    """What every client of a run shares."""

    balancer: Balancer
    recorder: Recorder
    rng: random.Random
    give_up_at: float = float("inf")
    """Monotonic time beyond which nobody tries any more."""
    head_s: float = HEAD_S
    """How long a client waits for the head of an answer."""
    open_now: int = 0
    hurry: bool = False
    """Whether the slow ones read as fast as they can, so that a run ends."""


@dataclass(slots=True)
class Ask:
    """The next request of a viewer."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    asked: str = ""


class Viewer:
    """Follows one message on the native wire."""

    wire = "native"

    def __init__(self, client: Client, name: str, chat: str, message: str, habits: Habits) -> None:
        self.client = client
        self.name = name
        self.chat = chat
        self.message = message
        self.habits = habits
        self.cursor = ""
        self.over = False
        """The end was seen, or what takes its place."""
        self._fresh = True
        self._rng = random.Random(client.rng.random())

    def ask(self) -> Ask:
        """Return what to ask for next."""
        path = f"/chats/{self.chat}/messages/{self.message}/stream"
        if self.cursor:
            return Ask("GET", path, {"last-event-id": self.cursor}, asked=self.cursor)
        if self.habits.snapshot:
            return Ask("GET", f"{path}?from=snapshot")
        return Ask("GET", path)

    def take(self, ident: str, data: str) -> None:
        """Take one event."""
        if ident:
            self.cursor = ident
        elif data.startswith('{"type":"reset"') and '"replay":true' in data:
            self.cursor = ""
        self.over = data.startswith('{"type":"end"')

    def refused(self, status: int) -> bool:
        """Hear a status that is no stream; return whether that is the last word."""
        return status in (204, 404, 410)

    async def run(self) -> None:
        """Watch until it is over; writes one record a connection."""
        habits, rng = self.habits, self._rng
        while time.monotonic() < self.client.give_up_at:
            conn = Conn(self.name, self.chat, self.message, self.wire, time.time())
            self.client.open_now += 1
            try:
                done = await self._connect(conn)
            finally:
                self.client.open_now -= 1
                conn.closed, conn.chat, conn.message = time.time(), self.chat, self.message
                self.client.recorder.put(conn)
            if done:
                return
            low, high = habits.pause_s
            await asyncio.sleep(rng.uniform(low, high) if conn.status == 200 else rng.uniform(0.1, 0.5))

    async def _connect(self, conn: Conn) -> bool:
        asking = self.ask()
        conn.asked = asking.asked
        stream: Stream | None = None
        try:
            headers = ALICE | {"accept": "text/event-stream"} | asking.headers
            slow = self.habits.bytes_per_s is not None
            stream = await open_stream(
                self.client.balancer.port, asking.method, asking.path, headers, asking.body, small=slow
            )
            conn.gateway = self.client.balancer.taken.get(stream.port, "")
            async with asyncio.timeout(self.client.head_s):
                conn.status = await stream.head()
            conn.head = time.time()
            if not conn.gateway:
                conn.gateway = self.client.balancer.taken.get(stream.port, "")
            if conn.status != 200:
                conn.ended = "clean"
                return self.refused(conn.status)
            self.begin(stream.headers)
            conn.ended = await self._read(stream, conn)
        except TimeoutError:
            conn.ended = "timeout"
        except (OSError, EOFError, ValueError):
            conn.ended = "broken" if conn.status else "refused"
        finally:
            if stream is not None:
                stream.cut()
        return self.over and conn.ended in ("clean", "cut")

    def begin(self, headers: Mapping[str, str]) -> None:
        """See the headers of a stream."""

    async def _read(self, stream: Stream, conn: Conn) -> Ended:
        habits, rng, blocks = self.habits, self._rng, Blocks()
        left = rng.randrange(1, habits.most_bytes) if rng.random() < habits.cut else None
        most = 65_536 if habits.bytes_per_s is None else max(64, int(habits.bytes_per_s / 10))
        while True:
            async with asyncio.timeout(IDLE_S):
                data = await stream.read(most)
            if not data:
                return "clean" if stream.clean else "broken"
            if left is not None:
                data, left = data[:left], left - len(data)
            now = time.time()
            for ident, text in blocks.feed(data):
                conn.events.append((now, ident, text))
                self.take(ident, text)
            if left is not None and left <= 0:
                return "cut"
            if habits.bytes_per_s is not None and not self.client.hurry:
                await asyncio.sleep(len(data) / habits.bytes_per_s)


class ChatCompletion(Viewer):
    """Asks for a completion and, cut off, for the same one again: this wire has no cursor, only the key."""

    wire = "chat_completions"

    def __init__(self, client: Client, name: str, key: str, body: dict[str, Any], habits: Habits) -> None:
        super().__init__(client, name, "", "", habits)
        self._key = key
        self._body = {**body, "stream": True}

    def ask(self) -> Ask:
        return Ask("POST", "/v1/chat/completions", {"idempotency-key": self._key}, self._body)

    def begin(self, headers: Mapping[str, str]) -> None:
        self.chat = self.message = headers.get("x-response-id", "")

    def take(self, ident: str, data: str) -> None:
        # An error chunk is a last word too, unless it says that another attempt begins.
        self.over = data == "[DONE]" or (data.startswith('{"error"') and '"code":"answer_restarted"' not in data)

    def refused(self, status: int) -> bool:
        return 400 <= status < 500


class BackgroundResponse(Viewer):
    """Starts a response in the background and reads its events, going on behind the last number it has."""

    wire = "responses"

    def __init__(self, client: Client, name: str, key: str, body: dict[str, Any], habits: Habits) -> None:
        super().__init__(client, name, "", "", habits)
        self._key = key
        self._body = {**body, "stream": True, "background": True, "store": True}
        self._number = -1

    def ask(self) -> Ask:
        if self.message and self._number >= 0:
            path = f"/v1/responses/{self.message}?stream=true&starting_after={self._number}"
            return Ask("GET", path, asked=str(self._number))
        return Ask("POST", "/v1/responses", {"idempotency-key": self._key}, self._body)

    def begin(self, headers: Mapping[str, str]) -> None:
        self.chat = self.message = headers.get("x-response-id", self.message)

    def take(self, ident: str, data: str) -> None:
        event = json.loads(data)
        self._number = event.get("sequence_number", self._number)
        kind = event["type"]
        error = (event.get("response") or {}).get("error") or {}
        restarted = kind == "response.failed" and error.get("code") == "answer_restarted"
        self.over = kind in ("response.completed", "response.incomplete", "response.failed") and not restarted

    def refused(self, status: int) -> bool:
        if status == 400:  # more than the log has that a failover left: from the beginning, by its key
            self._number = -1
        return status in (404, 410)


class UiChat(Viewer):
    """Sends a chat message as the AI SDK does and resumes its stream, from the beginning each time."""

    wire = "ui"

    def __init__(self, client: Client, name: str, chat: str, body: dict[str, Any], habits: Habits) -> None:
        super().__init__(client, name, chat, "", habits)
        self._body = {**body, "id": chat}

    def ask(self) -> Ask:
        if self.message:
            return Ask("GET", f"/api/chat/{self.chat}/stream")
        return Ask("POST", "/api/chat", {"idempotency-key": self.name}, self._body)

    def take(self, ident: str, data: str) -> None:
        if data.startswith('{"type":"start",') and not self.message:
            self.message = json.loads(data).get("messageId", "")
        self.over = data == "[DONE]"

    def refused(self, status: int) -> bool:
        return status in (204, 404, 410)
