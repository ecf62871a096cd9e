"""Readiness questions asked over loopback: one exchange each, with a deadline, answered by yes or no."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Probe = Callable[[], Awaitable[bool]]

_ANSWER_WITHIN_S = 2.0


def http_ok(host: str, port: int, path: str) -> Probe:
    """Return a probe that is true once `GET path` answers 200."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode("ascii")

    async def probe() -> bool:
        return b" 200 " in await _first_line(host, port, request)

    return probe


def redis_ok(host: str, port: int) -> Probe:
    """Return a probe that is true once Redis answers PING, so not while it is still loading its file."""

    async def probe() -> bool:
        return (await _first_line(host, port, b"PING\r\n")).startswith(b"+PONG")

    return probe


async def _first_line(host: str, port: int, request: bytes) -> bytes:
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                await writer.drain()
                return await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return b""
