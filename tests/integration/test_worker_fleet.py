"""A fleet under load: a new message does not wait for the others, and stops in any state leave nothing behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from gateway.access.principal import LOCAL
from shared.ids import MessageRef
from tests.integration.worker_kit import Kit, open_kit
from tests.support.gateway import indexed, live_gateway, settings_for
from tests.support.wait import wait_until

SLOTS = 120
WORKERS = 3
ENDLESS = "[[rate=0.05 endless=1 first_token_ms=0]] x"
SHORT = "[[rate=0 tokens=3 reasoning=0]] x"


@pytest_asyncio.fixture
async def kit(redis_url: str) -> AsyncIterator[Kit]:
    """A fleet of workers."""
    async with open_kit(redis_url) as kit:
        # A lease as in operation: on a busy machine the shortest one would have a fleet take over from itself.
        fleet = (kit.worker(TAILRACE_LEASE_MS=8000, TAILRACE_WORKER_SLOTS=SLOTS) for _ in range(WORKERS))
        await asyncio.gather(*fleet)
        yield kit


async def running(kit: Kit) -> float:
    return sum([await kit.metric(worker, "tailrace_slots_used") for worker in kit.workers.values()])


async def ended(kit: Kit, refs: list[MessageRef], within_s: float) -> list[str]:
    """Wait until all have ended and return their states."""

    async def over() -> bool:
        return all(meta is not None and meta.terminal for meta in await asyncio.gather(*map(kit.log.meta, refs)))

    await wait_until(over, deadline_s=within_s, what="the end of all")
    return [(await kit.meta(ref)).state for ref in refs]


async def test_a_new_message_is_claimed_within_a_second_while_three_hundred_run_on_a_fleet(kit: Kit) -> None:
    refs = await asyncio.gather(*(kit.send(ENDLESS) for _ in range(300)))

    async def all_run() -> bool:
        return await running(kit) == 300

    await wait_until(all_run, deadline_s=60.0, what="300 running")
    waited = []
    for _ in range(5):
        ref = await kit.send(SHORT)
        assert (await kit.ended(ref)).state == "done"
        created, claimed = [entry.cursor.epoch for entry in (await kit.log.read_all(ref))[:2]]
        waited.append(claimed - created)
    # Microseconds of Redis's clock; the best of five, because the machine may have other work.
    assert 0 < min(waited) < 1_000_000, waited
    await wait_until(all_run, what="the others run on")
    await asyncio.gather(*map(kit.log.stop, refs))
    assert set(await ended(kit, refs, 60.0)) == {"aborted"}


class Crowd:
    """Callers of two gateways."""

    def __init__(self, clients: tuple[httpx.AsyncClient, ...]) -> None:
        self._clients = clients
        self.dice = random.Random(600)
        self._at_a_time = asyncio.Semaphore(40)

    async def post(self, path: str, body: object = None) -> httpx.Response:
        async with self._at_a_time:
            return await self.dice.choice(self._clients).post(path, json=body)

    async def start(self, chat_id: str, prompt: str) -> MessageRef:
        body = {"messages": [{"role": "user", "content": prompt}], "message_id": "m"}
        assert (await self.post(f"/chats/{chat_id}/messages", body)).status_code == 202
        return LOCAL.ref(chat_id, "m")

    async def stop(self, ref: MessageRef) -> None:
        assert (await self.post(f"/chats/{ref.chat_id}/messages/m/stop")).status_code in (200, 202)


async def test_six_hundred_stops_in_any_state_and_order_leave_nothing_in_flight(kit: Kit, tmp_path: Path) -> None:
    settings = settings_for(kit.redis_url, tmp_path, max_queue=0, max_running_per_user=0)
    async with live_gateway(settings) as a, live_gateway(settings) as b, a.client() as on_a, b.client() as on_b:
        crowd = Crowd((on_a, on_b))
        done = await asyncio.gather(*(crowd.start(f"done{n}", SHORT) for n in range(100)))
        await ended(kit, done, 60.0)

        async def index_empty() -> bool:
            return not await indexed(a.services)

        await wait_until(index_empty, what="what has ended taken out of its user's index")
        # More than there are slots: the others stay in the queue.
        rest = await asyncio.gather(*(crowd.start(f"rest{n}", ENDLESS) for n in range(500)))

        async def all_slots() -> bool:
            return await running(kit) == SLOTS * WORKERS

        await wait_until(all_slots, deadline_s=60.0, what="every slot taken")
        assert len([key async for key in keys(kit, "tr:*:active")]) == len(rest)
        stops = [*done, *rest]
        crowd.dice.shuffle(stops)
        await asyncio.gather(*map(crowd.stop, stops))
        assert set(await ended(kit, rest, 60.0)) == {"aborted"}
        assert set(await ended(kit, done, 1.0)) == {"done"}
        assert (await on_a.get("/active")).json()["messages"] == []
    for kind in (":active", ":live"):
        assert [key async for key in keys(kit, f"tr:*{kind}")] == []

    async def none_run() -> bool:
        return await running(kit) == 0

    await wait_until(none_run, what="every slot given back")


async def keys(kit: Kit, pattern: str) -> AsyncIterator[str]:
    position = b"0"
    while True:
        position, found = await kit.link.call("SCAN", position, "MATCH", pattern, "COUNT", 1000)
        for key in found:
            yield key.decode()
        if position == b"0":
            return
