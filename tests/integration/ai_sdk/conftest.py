"""Two gateways for a whole module, and for each test a chat that nobody else uses."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from shared.link import Link
from shared.log.log import Log
from shared.log.types import Retention
from shared.redis import resolver
from tests.support.gateway import LiveGateway, live_gateway, settings_for
from tests.support.redis import RedisServer
from tests.support.ui_chat import UiChat

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def link(emptied_redis: RedisServer) -> AsyncIterator[Link]:
    """A command link of the tests' own. The server is emptied for the file alone: every test has its own chat."""
    link = Link(resolver(emptied_redis.url), name="test")
    await link.open(wait_s=5)
    yield link
    await link.close()


@pytest.fixture(scope="module")
def log(link: Link) -> Log:
    return Log(link, Retention())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(emptied_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveGateway]:
    async with live_gateway(settings_for(emptied_redis.url, tmp_path_factory.mktemp("a"))) as live:
        yield live


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def second(emptied_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveGateway]:
    async with live_gateway(settings_for(emptied_redis.url, tmp_path_factory.mktemp("b"))) as live:
        yield live


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(gateway: LiveGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(second: LiveGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the second gateway."""
    async with second.client() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def chat(client: httpx.AsyncClient, log: Log, link: Link) -> AsyncIterator[UiChat]:
    chat = UiChat(client, log, link, f"chat{next(_numbers)}")
    yield chat
    await chat.close()
