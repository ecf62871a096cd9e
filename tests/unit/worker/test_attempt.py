"""An attempt and its supervisor against a real Redis: who looks after the message meanwhile and afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.ids import MessageRef
from shared.jobs import GenerationRequest
from shared.link import Link
from shared.log.ending import FAILOVER_WINDOW_MS
from shared.log.keys import DUE
from shared.log.log import Log
from shared.log.types import Ownership, Reply, Retention
from tests.support.log import claim, created, marker, seen
from tests.support.wait import wait_until
from worker.generate import Deadlines, Generation, Parts
from worker.lease import Lease
from worker.ledger import Ledger
from worker.metrics import Metrics
from worker.recovery import Plan
from worker.sender import WriterLimits
from worker.supervisor import Supervisor
from worker.upstreams.agent import Agent
from worker.upstreams.base import AgentContext, AgentFunction
from worker.writer import Writer


class ReplyLost(Log):
    """Sends every RELEASE a second time, as the link does when the reply to the first was lost."""

    async def release(self, own: Ownership, **options: Any) -> Reply:
        await super().release(own, **options)
        return await super().release(own, **options)


async def silent(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    yield ev.TextDelta("", "so far")
    await asyncio.Event().wait()


async def short(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    yield ev.TextDelta("", "all")


async def attempt(log: Log, link: Link, ref: MessageRef, agent: AgentFunction = silent) -> Generation:
    """Create and claim `ref` and return an attempt at it."""
    await created(log, ref)
    entries = await log.read_all(ref)
    own = await claim(log, ref)
    metrics = Metrics()
    parts = Parts(log, Dispatcher(link), metrics, Agent(agent), None, set())
    generation = Generation(
        own, GenerationRequest("m", []), Plan("first", "start", entries, []), parts, Deadlines(9, 9, 9)
    )
    lease = Lease(60_000, 100, asyncio.get_running_loop().time())
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
    generation.use(writer, AgentContext(ref, 1, lambda: None, _no_client, generation.add_usage))
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


async def test_what_was_claimed_in_the_moment_of_the_signal_is_run_in_the_window(
    log: Log, link: Link, ref: MessageRef
) -> None:
    """Handed on at once its model may have been called for nothing; one of `recovery = "fail"` would be lost."""
    called, go_on = asyncio.Event(), asyncio.Event()

    async def agent(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
        called.set()
        await go_on.wait()
        yield ev.TextDelta("", "all")

    supervisor = Supervisor(1, log, 60_000, Metrics(), lambda: None)
    generation = await attempt(log, link, ref, agent)
    assert supervisor.reserve()
    supervisor.draining = True
    supervisor.start(generation)
    draining = asyncio.create_task(supervisor.drain(10, asyncio.Event()))
    await asyncio.wait_for(called.wait(), 5)
    assert (await seen(log, ref)).state == "running"
    go_on.set()
    await draining
    assert (await seen(log, ref)).state == "done"


async def test_the_log_says_that_something_blocks(
    log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All leases of the worker may run out over it, and nothing else would tell why."""
    monkeypatch.setattr("worker.supervisor.HELD_UP_S", 0.05)
    supervisor = Supervisor(1, log, 60_000, Metrics(), lambda: None)
    supervisor.open()
    try:
        await asyncio.sleep(0)  # the clock runs
        time.sleep(0.4)  # noqa: ASYNC251 - that is what is to be told
        await wait_until(lambda: "the loop was held up" in caplog.text)
    finally:
        await supervisor.close()
    [line] = [vars(record) for record in caplog.records if record.message == "the loop was held up"]
    assert line["seconds"] >= 0.1


async def due_in_ms(log: Log, link: Link, ref: MessageRef) -> float | None:
    """Return when a reaper will look at the message, from now; None if none will."""
    score = await link.call("ZSCORE", DUE, ref.member)
    return None if score is None else float(score) - (await seen(log, ref)).now


async def test_11_an_owner_keeps_renewing_the_appointment_with_the_reapers(
    log: Log, link: Link, ref: MessageRef
) -> None:
    generation = await attempt(log, link, ref)
    supervisor = Supervisor(1, log, 60_000, Metrics(), lambda: None)
    supervisor.reserve()
    supervisor.start(generation)
    supervisor.open()
    try:
        for _ in range(2):  # whatever has lost it
            await link.call("DEL", DUE)

            async def made() -> bool:
                left = await due_in_ms(log, link, ref)
                return left is not None and 50_000 < left <= 60_000

            await wait_until(made, what="the appointment for the lease's end")
    finally:
        await supervisor.close()


async def test_11_an_ended_message_is_looked_at_again_after_the_failover_window(
    log: Log, link: Link, ref: MessageRef
) -> None:
    generation = await attempt(log, link, ref, short)
    assert await generation.run() == "done"
    left = await due_in_ms(log, link, ref)
    assert left is not None
    assert FAILOVER_WINDOW_MS - 5_000 < left <= FAILOVER_WINDOW_MS
