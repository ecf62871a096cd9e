"""An attempt that hands its message over, to a real Redis: whatever becomes of the reply, another worker hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.ids import MessageRef
from shared.jobs import GenerationRequest
from shared.link import Link
from shared.log.log import Log
from shared.log.types import Ownership, Reply, Retention
from tests.support.log import claim, created, marker, seen
from worker.generate import Deadlines, Generation, Parts
from worker.lease import Lease
from worker.ledger import Ledger
from worker.metrics import Metrics
from worker.recovery import Plan
from worker.upstreams.base import AgentContext
from worker.writer import Writer, WriterLimits


class ReplyLost(Log):
    """Sends every RELEASE a second time, as the link does when the reply to the first was lost."""

    async def release(self, own: Ownership, **options: Any) -> Reply:
        await super().release(own, **options)
        return await super().release(own, **options)


async def silent(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    yield ev.TextDelta("", "so far")
    await asyncio.Event().wait()


async def attempt(log: Log, link: Link, ref: MessageRef) -> Generation:
    """Create and claim `ref` and return an attempt at it."""
    await created(log, ref)
    entries = await log.read_all(ref)
    own = await claim(log, ref)
    metrics = Metrics()
    parts = Parts(log, Dispatcher(link), metrics, silent, None, set())
    generation = Generation(
        own, GenerationRequest("m", []), Plan("first", "start", entries, []), parts, Deadlines(9, 9, 9)
    )
    lease = Lease(60_000, 15_000, asyncio.get_running_loop().time())
    writer = Writer(
        log,
        own,
        Ledger(entries, own.epoch, marker(1), max_entry=65_536, max_bytes=1_000_000, max_entries=1_000),
        await log.backup(ref),
        lease,
        WriterLimits(262_144, 0.0, 262_144, 5.0),
        channel="tr:worker:w",
        signal=generation.signal,
        metrics=metrics,
    )
    generation.use(writer, AgentContext(ref, 1, None, _no_client, generation.add_usage))
    return generation


def _no_client() -> Any:
    raise AssertionError("no HTTP client here")


async def test_a_release_whose_reply_was_lost_still_tells_another_worker(link: Link, ref: MessageRef) -> None:
    log = ReplyLost(link, Retention())
    generation = await attempt(log, link, ref)
    generation.interrupt("drain")
    async with asyncio.timeout(10):
        await generation.run()
    assert (await seen(log, ref)).state == "queued"
    assert await Dispatcher(link).depth() == 1
