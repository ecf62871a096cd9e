"""Agents that block, and so work in threads: each has one, and none keeps its worker from leaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.integration.worker_agents import AT_A_TIME
from tests.integration.worker_kit import Kit, open_kit


@pytest.fixture
async def kit(redis_url: str) -> AsyncIterator[Kit]:
    """A kit whose workers know the agents that block; they are the test's to start."""
    async with open_kit(redis_url) as kit:
        kit.models = [
            {"name": name, "kind": "agent", "agent": f"tests.integration.worker_agents:{name}"}
            for name in ("meeting", "deep")
        ]
        yield kit


async def test_as_many_agents_may_block_in_threads_as_a_worker_has_slots(kit: Kit) -> None:
    await kit.worker(TAILRACE_WORKER_SLOTS=AT_A_TIME)
    refs = await asyncio.gather(*(kit.send("x", "meeting") for _ in range(AT_A_TIME)))
    for ref in refs:
        assert (await kit.ended(ref)).text == "met"


async def test_a_thread_that_never_ends_does_not_keep_its_worker_from_leaving(kit: Kit) -> None:
    worker = await kit.worker()
    ref = await kit.send("x", "deep")
    await kit.wait_text(ref, 5)
    await kit.log.stop(ref)
    assert (await kit.ended(ref)).state == "aborted"
    assert await worker.stop(within_s=20) == 0
