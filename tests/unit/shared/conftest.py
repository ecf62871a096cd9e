"""What the link's tests share: servers' versions, and links that are closed after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from shared.link import Link
from shared.redis import resolver
from tests.support.redis import RedisServer, server_binaries

WRITE = "return redis.call('SET', KEYS[1], ARGV[1])"
Start = Callable[..., RedisServer]
Open = Callable[..., Awaitable[Link]]
BINARIES: list[str | None] = [*server_binaries()] or [None]
"""Servers word their errors differently."""


@pytest.fixture
async def open_link() -> AsyncIterator[Open]:
    """`open_link(url)` opens a link that is closed after the test."""
    links: list[Link] = []

    async def open_(url: str, wait_s: float | None = 5, **how: Any) -> Link:
        link = Link(resolver(url), name="test", **how)
        links.append(link)
        await link.open(wait_s=wait_s)
        return link

    yield open_
    for link in links:
        await link.close()
