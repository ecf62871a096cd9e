"""The fixtures that need no thought: a Redis, an empty log on it, a link to it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from hypothesis import settings

from shared.ids import MessageRef
from shared.link import Link
from shared.log.log import Log
from shared.log.types import Retention
from shared.redis import resolver
from tests.support.redis import RedisServer, main_redis, make_redis

LONGEST = (
    "tests/deploy/test_compose.py",
    "tests/integration/test_worker_takeover.py",
    "tests/deploy/test_make_run.py",
    "tests/integration/test_gateway_auth.py",
    "tests/integration/test_snapshots.py",
    "tests/third_party/test_litellm.py",
    "tests/fuzz/test_description.py",
    "tests/docs/test_readme_examples.py",
    "tests/contract/test_model.py",
    "tests/integration/test_worker_fleet.py",
    "tests/browser/test_survival.py",
    "tests/browser/test_page.py",
    "tests/integration/test_gateway_stop.py",
    "tests/integration/test_worker_redis.py",
    "tests/integration/openai/test_client_openai_crashes.py",
)
"""The files that take longest. They come first, or one process would be at the last of them long after the others."""

# The same examples in every run; `--hypothesis-profile=search` looks for new ones, and for longer.
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.register_profile("search", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The server that most tests share, with whatever they left. Take `redis_url` or `emptied_redis`."""
    server = main_redis()
    yield server
    server.close()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of the shared server, emptied."""
    with redis_server.admin() as client:
        client.flushdb()
    return redis_server.url


@pytest.fixture(scope="module")
def emptied_redis(redis_server: RedisServer) -> RedisServer:
    """The shared server, emptied once for a whole file: for what its tests start once and share."""
    with redis_server.admin() as client:
        client.flushdb()
    return redis_server


@pytest.fixture
def start_redis() -> Iterator[Callable[..., RedisServer]]:
    """`start_redis(binary=..., args=[...])` starts a server of this test's own, to kill, freeze and restart."""
    servers: list[RedisServer] = []

    def start(**how: object) -> RedisServer:
        server = make_redis(**how)  # type: ignore[arg-type]  # the same keywords
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[Link]:
    """An open command link to the shared server."""
    link = Link(resolver(redis_url), name="test")
    await link.open(wait_s=5)
    yield link
    await link.close()


@pytest.fixture
def log(link: Link) -> Log:
    """The log on the shared, emptied server, with the default periods."""
    return Log(link, Retention())


@pytest.fixture
def ref() -> MessageRef:
    """A message that nobody else uses."""
    unique = uuid.uuid4().hex[:12]
    return MessageRef("acme", f"chat-{unique}", f"msg-{unique}")
