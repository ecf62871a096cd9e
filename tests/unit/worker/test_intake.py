"""From a message to a running attempt: what a claim costs, on a real Redis."""

from __future__ import annotations

from typing import Any

import pytest

from shared.dispatch import Dispatcher
from shared.fold import fold
from shared.ids import MessageRef
from shared.link import Link
from shared.log.log import Log
from shared.message import Message
from shared.models import Models, ModelSpec
from tests.support.log import append, run_out, started
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
