"""From a message to a running attempt, or to its end where it may not run; on a real Redis."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.fold import fold
from shared.ids import MessageRef
from shared.link import Link
from shared.log.log import Log
from shared.log.types import Retention
from shared.message import Message
from shared.models import Models, ModelSpec
from tests.support.log import append, claim, created, run_out, seen, started
from worker.intake import Intake
from worker.metrics import Metrics
from worker.settings import WorkerSettings
from worker.upstreams.config import Upstreams

AGENT = ModelSpec(name="m", kind="agent", agent="tests.unit.worker.test_agent:generator", recovery="restart")


async def test_what_earlier_attempts_wrote_is_folded_once_and_only_for_who_asks(
    log: Log, link: Link, ref: MessageRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim folds nothing: that takes seconds of the worker's loop where a log is long."""
    folds: list[Message] = []

    def counted(events: Any) -> Message:
        folds.append(fold(events))
        return folds[-1]

    monkeypatch.setattr("worker.recovery.fold", counted)
    own = await started(log, ref)
    await append(log, own, 3, "so far")
    await run_out(link, ref)
    settings = WorkerSettings()
    upstreams = Upstreams(Models([AGENT]), settings, {})
    intake = Intake(log, Dispatcher(link), upstreams, settings, Metrics(), "tr:worker:w", set())
    generation = await intake.take(ref)
    assert generation is not None
    assert not folds
    prior = generation.context.prior
    assert prior is not None
    assert prior is generation.context.prior
    assert folds == [prior]
    await upstreams.close()


class Overtaken(Log):
    """A log to which another worker comes between our reading it and our claim, once; it hands over at once."""

    come = False

    async def claim(self, ref: MessageRef, **how: Any) -> Any:
        if not self.come:
            self.come = True
            other = await claim(self, ref, seen=1)
            await append(self, other, other.marker_seq + 1, "and more")
            await self.release(other)
        return await super().claim(ref, **how)


async def test_who_was_overtaken_by_a_worker_that_left_again_plans_anew(link: Link, ref: MessageRef) -> None:
    """Its attempt was refunded, so nothing but the marker's place tells of it."""
    log = Overtaken(link, Retention())
    log.come = True
    own = await started(log, ref)
    await append(log, own, 3, "so far")
    await run_out(link, ref)
    log.come = False
    settings = WorkerSettings()
    upstreams = Upstreams(Models([AGENT]), settings, {})
    generation = await Intake(log, Dispatcher(link), upstreams, settings, Metrics(), "tr:worker:w", set()).take(ref)
    assert generation is not None
    assert generation.writer.ledger.entries() == await log.read_all(ref)
    await upstreams.close()


@pytest.mark.parametrize(("stopped", "state"), [(True, "aborted"), (False, "failed")])
async def test_a_stop_that_meets_a_hand_over_wins_over_giving_up(
    log: Log, link: Link, ref: MessageRef, stopped: bool, state: str
) -> None:
    nothing: Any = SimpleNamespace(models={})
    intake = Intake(log, Dispatcher(link), nothing, WorkerSettings(), Metrics(), "tr:worker:w", set())
    await created(log, ref)
    own = await claim(log, ref)
    await append(log, own, 3, "so far")
    if stopped:
        await log.stop(ref)
    await log.release(own)
    assert await intake.take(ref) is None
    assert (await seen(log, ref)).state == state
    last = (await log.read_all(ref))[-1].event
    assert isinstance(last, ev.End)
    assert (last.error is None) == stopped
