"""A client of the shared, open gateway, the worker's side of what it starts, and the road for real clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import openai
import pytest
import pytest_asyncio

from shared.log.log import Log
from tests.integration.openai.road import ClientRoad, open_client_road
from tests.support.gateway import LiveGateway
from tests.support.openai_kit import Worker, sdk
from tests.support.redis import make_redis

Take = Callable[[str], Awaitable[Worker]]


@pytest.fixture
async def client_of_gateway(gateway: LiveGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client of `gateway`."""
    async with sdk(gateway.url) as client:
        yield client


@pytest.fixture
def take(log: Log) -> Take:
    """`await take(name)` claims a message that was started, as a worker would."""

    async def claim(name: str) -> Worker:
        return await Worker(log, name).claim()

    return claim


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def road() -> AsyncIterator[ClientRoad]:
    """The whole road, on a Redis of its own: its worker would take what other tests do by hand."""
    redis = make_redis()
    redis.start()
    try:
        async with open_client_road(redis.url) as opened:
            yield opened
    finally:
        redis.close()
