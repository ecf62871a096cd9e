"""Alive and ready are two questions; a short absence of Redis changes the answer to neither."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from tests.integration.conftest import MakeGateway
from tests.support.gateway import LiveGateway, started
from tests.support.redis import RedisServer
from tests.support.wait import wait_until


async def status(client: httpx.AsyncClient, path: str) -> int:
    return (await client.get(path)).status_code


async def test_a_long_absence_of_redis_makes_unready_but_never_dead(
    make_gateway: MakeGateway, start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis()
    async with make_gateway(redis_url=redis.url, ready_grace_s=2) as gateway, gateway.client() as client:
        loop = asyncio.get_running_loop()
        assert await status(client, "/readyz") == 200
        await asyncio.to_thread(redis.kill)
        killed = loop.time()

        async def unready() -> bool:
            now = await status(client, "/readyz")
            if loop.time() - killed < 0.9:  # the last answer is at most a second older than the kill
                assert now == 200
            assert await status(client, "/healthz") == 200
            return now == 503

        await wait_until(unready, 15)
        body = (await client.get("/readyz")).json()
        assert (body["ok"], body["redis"], body["draining"]) == (False, False, False)
        await asyncio.to_thread(redis.start)

        async def ready() -> bool:
            return await status(client, "/readyz") == 200

        await wait_until(ready, 15)


async def test_draining_turns_readiness_off_and_serves_on(gateway: LiveGateway, client: httpx.AsyncClient) -> None:
    gateway.services.pulse.draining = True
    assert await status(client, "/readyz") == 503
    assert await status(client, "/healthz") == 200
    await started(client)


async def test_metrics_count_by_operation_and_name_nobody(client: httpx.AsyncClient) -> None:
    await started(client, "canary-chat", "canary-message")
    await client.get("/canary-path")
    text = (await client.get("/metrics")).text
    assert 'tailrace_gateway_requests_total{operation="start_message",status="202"} 1.0' in text
    assert 'tailrace_gateway_requests_total{operation="none",status="404"} 1.0' in text
    assert 'tailrace_gateway_starts_total{outcome="created"} 1.0' in text
    assert "\nprocess_resident_memory_bytes " in text
    assert "\nprocess_open_fds " in text
    assert "canary" not in text
