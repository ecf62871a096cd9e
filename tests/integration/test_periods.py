"""How long what is kept, as the settings say: what a gateway writes, running, ended and deleted, lives that long.

(What readers are told once a period is over is tested by taking the keys away. The worker's part of this stands in
`test_worker_answers`.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.feed import feed_key
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import last_key, log_keys, user_key
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import LiveGateway, started
from tests.support.log import lasts

LIVE_S, REPLAY_S, RETAIN_S, TOMBSTONE_S, DEADLINE_S = 1000, 2000, 3000, 4000, 500
PERIODS: dict[str, Any] = {
    "live_ttl_s": LIVE_S,
    "replay_s": REPLAY_S,
    "retain_s": RETAIN_S,
    "tombstone_s": TOMBSTONE_S,
    "message_deadline_s": DEADLINE_S,
}


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> AsyncIterator[LiveGateway]:
    """One whose periods are all different, and none the default."""
    async with make_gateway(**PERIODS) as live:
        yield live


async def test_a_message_in_flight(client: httpx.AsyncClient, log: Log, link: Link) -> None:
    ref = await started(client)
    keys = log_keys(ref)
    for key in keys.live_keys:
        await lasts(link, key, LIVE_S)
    await lasts(link, last_key(ref.tenant, ref.chat_id), DEADLINE_S + RETAIN_S)
    await lasts(link, user_key(ref.tenant), DEADLINE_S + REPLAY_S)
    await lasts(link, feed_key(ref.tenant), RETAIN_S)
    meta = await log.meta(ref)
    assert meta is not None
    assert meta.deadline - meta.born == DEADLINE_S * 1000


@pytest.mark.parametrize("how", ["stopped", "deleted"])
async def test_a_message_that_is_over(client: httpx.AsyncClient, link: Link, how: str) -> None:
    ref: MessageRef = await started(client)
    keys = log_keys(ref)
    if how == "stopped":
        assert (await client.post("/chats/c/messages/m/stop")).json()["state"] == "aborted"
        await lasts(link, keys.stream, REPLAY_S)
    else:
        assert (await client.delete("/chats/c/messages/m")).status_code == 204
        assert await link.call("EXISTS", keys.stream) == 0
    await lasts(link, keys.meta, RETAIN_S)
    await lasts(link, keys.tomb, TOMBSTONE_S)
    assert await link.call("EXISTS", keys.active, keys.live) == 0


@pytest.mark.parametrize("replicas", [0, 1])
async def test_starts_and_ends_wait_for_replicas_where_that_is_set(
    make_gateway: MakeGateway, link: Link, replicas: int
) -> None:
    async def waits() -> int:
        told = (await link.call("INFO", "commandstats")).decode()
        return sum(line.startswith("cmdstat_wait:") for line in told.splitlines())

    await link.call("CONFIG", "RESETSTAT")
    async with make_gateway(wait_replicas=replicas) as gateway, gateway.client() as client:
        await started(client)
        assert await waits() == replicas
