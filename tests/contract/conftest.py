"""The contract of the log is kept on every Redis that is at home on this machine, the oldest accepted one first."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.redis import RedisServer, main_redis, redis_of_major

MAJORS = ("given",) if os.environ.get("TEST_REDIS_URL") else ("6", "7", "8")


@pytest.fixture(scope="session", params=MAJORS, ids=lambda major: f"redis-{major}")
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of each version instead of the one shared server."""
    server = main_redis() if request.param == "given" else redis_of_major(int(request.param))
    yield server
    server.close()
