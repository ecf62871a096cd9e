"""A peer: the gateway that most would write first. One blocking XREAD and one generator a viewer."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis
from sse_starlette.sse import EventSourceResponse  # type: ignore[import-not-found]  # of the peers' own environment
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

redis: Any = Redis(port=int(os.environ["REDIS_PORT"]), decode_responses=True, max_connections=20_000)


async def events(request: Request) -> EventSourceResponse:
    """Answer with the stream's events after `Last-Event-ID`."""
    key = f"s:{request.path_params['stream']}"
    after = request.headers.get("last-event-id", "0")

    async def follow() -> AsyncIterator[dict[str, str]]:
        position = after
        while True:
            for _, entries in await redis.xread({key: position}, block=15_000, count=100):
                for position, fields in entries:  # the last one is where to go on
                    yield {"id": position, "data": fields["d"]}

    return EventSourceResponse(follow(), sep="\n")


app = Starlette(routes=[Route("/sse/{stream}", events)])
