"""What viewers are told while Redis is away: come back, in words that no client takes for a final no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, raw_exchange, started
from tests.support.redis import RedisServer
from tests.support.wait import wait_until


@pytest.mark.timeout(60)
async def test_a_viewers_get_is_a_broken_stream_and_a_start_is_an_error(
    make_gateway: MakeGateway, start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis()
    async with make_gateway(redis_url=redis.url, redis_deadline_s=0.5) as gateway, gateway.client() as client:
        await started(client)
        await asyncio.to_thread(redis.kill)
        for path in ("/chats/c/messages/m/stream", "/chats/c/stream"):
            answer = await raw_exchange(gateway.url, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert b"content-type: text/event-stream\r\n" in answer
            assert b"\nretry: " in answer
            assert b"data:" not in answer
            assert not answer.endswith(b"0\r\n\r\n")  # no clean end
        body = {"messages": [{"role": "user", "content": "x"}], "message_id": "n"}
        assert (await client.post("/chats/c/messages", json=body)).status_code == 503


@pytest.mark.timeout(60)
async def test_while_the_queues_redis_is_away_a_start_is_refused_and_all_else_goes_on(
    make_gateway: MakeGateway, start_redis: Callable[..., RedisServer], log: Log
) -> None:
    queue = start_redis()
    async with make_gateway(queue_redis_url=queue.url, redis_deadline_s=0.5) as gateway, gateway.client() as client:
        ref = await started(client)
        await asyncio.to_thread(queue.kill)
        body = {"messages": [{"role": "user", "content": "x"}], "message_id": "n", "policy": "parallel"}
        refused = await client.post("/chats/c/messages", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert await log.in_flight(ref.tenant, "c") == ["m"]
        again = {**ASK, "message_id": "m"}
        assert (await client.post("/chats/c/messages", json=again)).status_code == 202
        assert (await client.post("/chats/c/messages/m/stop")).json()["state"] == "aborted"
        await asyncio.to_thread(queue.restart, keep_data=False)

        async def accepted() -> bool:
            return (await client.post("/chats/c/messages", json=body)).status_code == 202

        await wait_until(accepted)
