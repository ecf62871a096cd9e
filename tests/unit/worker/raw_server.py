"""A server that answers every HTTP request with exactly the bytes it was given, in exactly those segments."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

from shared.tasks import end_tasks

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

CLIENT_CLOSES_WITHIN_S = 1.0


@dataclass
class RawServer:
    """`answers` are used one a request, the last one for all that follow; each is a list of segments."""

    answers: Sequence[Sequence[bytes]]
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)
    hold_open: bool = False
    """Whether the connection stays open after the last segment."""
    reset: bool = False
    """Whether it is reset rather than closed."""
    closed_by_client: int = 0
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; the connection is gone when this returns."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self.serving.add(task)
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self.serving.discard(task)

    async def close(self) -> None:
        """Wait for the connections to end; one that its client does not close is closed after a while."""
        if self.serving:
            _, left = await asyncio.wait(self.serving, timeout=CLIENT_CLOSES_WITHIN_S)
            await end_tasks(*left)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0
        )
        body = await reader.readexactly(length)
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(head)
        self.bodies.append(json.loads(body) if body else {})
        for segment in answer:
            writer.write(segment)
            await writer.drain()
            await asyncio.sleep(0)
        if self.hold_open:
            with suppress(ConnectionResetError):
                await reader.read()
            self.closed_by_client += 1
        if self.reset:
            writer.transport.abort()


@asynccontextmanager
async def raw_server(
    *answers: Iterable[bytes], hold_open: bool = False, reset: bool = False
) -> AsyncIterator[RawServer]:
    """Serve `answers` on a free loopback port while the block runs."""
    raw = RawServer([list(answer) for answer in answers], hold_open=hold_open, reset=reset)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    raw.port = server.sockets[0].getsockname()[1]
    async with server:
        yield raw
    await raw.close()


def chunk(delta: object = None, **more: object) -> bytes:
    """Return one Chat Completions chunk as a server-sent event."""
    choice: dict[str, object] = {"index": 0, "delta": delta if delta is not None else {}}
    if "finish_reason" in more:
        choice["finish_reason"] = more.pop("finish_reason")
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    return sse(body)


def sse(body: object) -> bytes:
    """Return `body` as one server-sent event."""
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
STOP = chunk(finish_reason="stop")


def status(code: int, body: bytes = b"{}", *headers: bytes) -> list[bytes]:
    """Return a whole HTTP answer in JSON, mostly an error."""
    lines = [b"HTTP/1.1 %d X" % code, b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return [b"\r\n".join((*lines, b"Connection: close", *headers)) + b"\r\n\r\n" + body]
