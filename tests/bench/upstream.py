"""Owns the benchmark's model: a Chat Completions server whose answers are paced, marked and cheap to make.

    python -m tests.bench.upstream PORT RATE TOKENS

A first token comes at once; where in a period the others come is spread evenly over the answers. Left to when they are
begun, tokens of many answers would come together in some runs and one by one in others: two costs.

Every answer is TOKENS chunks, RATE a second (0: all at once), and each token carries the mark ` #seq@time` by which the
load client tells its age and place. An answer may ask for another pace: `{"rate": ..., "tokens": ...}` in the request.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BEFORE = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{'
AFTER = b'},"finish_reason":null}]}\n\n'
LAST = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


def chunk(data: bytes) -> bytes:
    """Return `data` in HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Answer(asyncio.Protocol):
    """One connection; one answer at a time."""

    def __init__(self, rate: float, tokens: int, phases: Iterator[float]) -> None:
        """`phases`: for each answer, the part of a period by which its second token comes early."""
        self._phases = phases
        self._loop = asyncio.get_running_loop()
        self._usual = (rate, tokens)
        self._heard = b""
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head, mark, body = self._heard.partition(b"\r\n\r\n")
        if not mark:
            return
        sizes = [row[15:] for row in head.lower().split(b"\r\n") if row.startswith(b"content-length:")]
        if sizes and len(body) < int(sizes[0]):
            return
        self._heard = b""
        asked: dict[str, Any] = json.loads(body or b"{}")
        rate = float(asked.get("rate", self._usual[0]))
        tokens = int(asked.get("tokens", self._usual[1]))
        self._transport.write(HEAD)
        if rate:
            self._begun = self._loop.time() - next(self._phases) / rate
            self._tick(1, tokens, 1 / rate)
        else:
            text = b"".join(self._token(seq) for seq in range(1, tokens + 1))
            self._transport.write(chunk(text + LAST) + b"0\r\n\r\n")

    @staticmethod
    def _token(seq: int) -> bytes:
        return b'%b"content":" #%d@%d"%b' % (BEFORE, seq, time.time_ns() // 1000, AFTER)

    def _tick(self, seq: int, tokens: int, step: float) -> None:
        if seq > tokens:
            self._transport.write(chunk(LAST) + b"0\r\n\r\n")
            return
        self._transport.write(chunk(self._token(seq)))
        self._timer = self._loop.call_at(self._begun + seq * step, self._tick, seq + 1, tokens, step)


def spread() -> Iterator[float]:
    """Yield numbers from 0 to 1 which, however many are taken, lie about evenly."""
    return (number * (5**0.5 - 1) / 2 % 1 for number in itertools.count())


async def serve(port: int, rate: float, tokens: int) -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    phases = spread()
    server = await loop.create_server(lambda: Answer(rate, tokens, phases), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
