"""Owns reading the body of an SDK's response, with as little as possible between the socket and us."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

from openai import AsyncAPIResponse

from worker.upstreams.body import Body, Enough, Room, Take
from worker.upstreams.tapped import TappedBody, reader_of

_PLAIN = ("", "identity")


@asynccontextmanager
async def body_of(response: AsyncAPIResponse[Any], *, direct: bool) -> AsyncGenerator[Body, None]:
    """Yield the body. `direct`: its pieces are handed over where their bytes arrive, if that can be.

    A body without a content coding is read from the transport's own stream: the three generators that the client and
    the SDK put before it do nothing to such a body, and cost more than a token's decoding.
    """
    http = response.http_response
    plain = http.headers.get("content-encoding", "").strip().lower() in _PLAIN
    reader = reader_of(http.stream) if plain and direct else None
    if reader is not None:
        yield TappedBody(reader)
        return
    pieces = aiter(http.stream) if plain else response.iter_bytes()  # type: ignore[arg-type]  # of an async client
    async with aclosing(cast("AsyncGenerator[bytes, None]", pieces)) as closing:
        yield _Pulled(closing)


class _Pulled:
    """A body read by its task, piece by piece."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces

    async def pour(self, take: Take, room: Room) -> bool:
        try:
            async for piece in self._pieces:
                if take(piece):
                    await room()
        except Enough:
            return False
        return True
