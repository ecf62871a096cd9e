"""A gateway over the shared Redis, open and emptied, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import LiveGateway, live_gateway, settings_for

MakeGateway = Callable[..., AbstractAsyncContextManager[LiveGateway]]


@pytest.fixture
def make_gateway(redis_url: str, tmp_path: Path) -> MakeGateway:
    """`async with make_gateway(max_queue=1) as gateway`: one with these settings, on the shared Redis."""

    def make(**more: Any) -> AbstractAsyncContextManager[LiveGateway]:
        return live_gateway(settings_for(more.pop("redis_url", redis_url), tmp_path, **more))

    return make


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> AsyncIterator[LiveGateway]:
    """An open gateway: everybody is the one local user."""
    async with make_gateway() as live:
        yield live


@pytest.fixture
async def client(gateway: LiveGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `gateway`."""
    async with gateway.client() as made:
        yield made
