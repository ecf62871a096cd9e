"""A Redis that refuses a command, as under an ACL that lacks one: the logs say which, and a start says so at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.support.gateway import ASK
from tests.support.processes import ProcessGroup, ServerProcess, chat_model
from tests.support.redis import RedisServer
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(120)
MODELS = [chat_model(9)]


@pytest.fixture
async def group() -> AsyncIterator[ProcessGroup]:
    async with ProcessGroup() as group:
        yield group


def take_away(redis: RedisServer, command: str) -> None:
    with redis.admin() as client:
        client.execute_command("ACL", "SETUSER", "default", f"-{command}")


async def told(process: ServerProcess, event: str) -> dict[str, Any]:
    """Return the first line of that event, once it is there."""

    def line() -> dict[str, Any] | None:
        return next((line for line in process.log_lines() if line["event"] == event), None)

    found: dict[str, Any] = await wait_until(line, what=f"no line {event!r} in the log")
    return found


async def test_a_request_that_redis_refuses_is_logged_with_its_words(
    group: ProcessGroup, start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis()
    gateway = await group.gateway(redis.url, MODELS)
    take_away(redis, "evalsha")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
        assert (await client.post("/chats/c/messages", json=ASK)).status_code == 500
    line = await told(gateway, "request failed")
    assert line["error_type"] == "ReplyError"
    assert "NOPERM" in line["redis_said"]
    assert "evalsha" in line["redis_said"]
    assert "Say something." not in gateway.tail()


async def test_a_start_without_the_right_to_look_at_redis_says_so(
    group: ProcessGroup, start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis()
    take_away(redis, "info")
    gateway = await group.gateway(redis.url, MODELS, wait=False)
    assert await gateway.wait() == 2
    said = gateway.tail()
    assert "tailrace gateway: Redis refuses to be checked (TAILRACE_REDIS_URL): NOPERM" in said
    assert "Traceback" not in said

    worker = await group.worker(redis.url, MODELS, wait=False)
    assert "NOPERM" in (await told(worker, "waiting for redis"))["reason"]
