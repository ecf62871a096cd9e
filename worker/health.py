"""Owns the health port: `/healthz`, `/readyz`, `/metrics` over the smallest HTTP server that probes understand.

Tasks: one per connection, owned by the server and bounded by a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_ANSWER_WITHIN_S = 5.0
_LONGEST_HEAD = 16_384

Check = Callable[[], str]
"""Returns what is wrong, in a word or two; "" if nothing is."""


class HealthServer:
    """Answers GETs on one port until closed."""

    def __init__(self, host: str, port: int, *, alive: Check, ready: Check, metrics: Callable[[], bytes]) -> None:
        self._host = host
        self._port = port
        self._alive = alive
        self._ready = ready
        self._metrics = metrics
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; raise `OSError` if the port is taken."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=_LONGEST_HEAD)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a probe that broke off, or no HTTP at all
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        line = head.split(b"\r\n", 1)[0].split(b" ")
        path = line[1].split(b"?")[0] if len(line) == 3 and line[0] == b"GET" else b""
        match path:
            case b"/healthz":
                return _checked(self._alive())
            case b"/readyz":
                return _checked(self._ready())
            case b"/metrics":
                return _response(200, self._metrics(), b"text/plain; version=0.0.4; charset=utf-8")
            case _:
                return _response(404, b'{"status":"not found"}')


def _checked(wrong: str) -> bytes:
    return _response(503 if wrong else 200, f'{{"status":"{wrong or "ok"}"}}'.encode())


def _response(status: int, body: bytes, kind: bytes = b"application/json") -> bytes:
    reason = {200: b"OK", 404: b"Not Found", 503: b"Service Unavailable"}[status]
    head = b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, reason, kind, len(body)) + body
