"""When calls that failed before their first token come again: not before they may, and not all at one moment."""

from __future__ import annotations

import asyncio

from tests.unit.worker.conftest import Kept
from worker.upstreams.base import UpstreamError
from worker.upstreams.retry import RetryBudget, with_retries

TOLD_S = 0.3
CALLS = 40


async def test_those_that_were_told_the_same_moment_do_not_all_come_back_at_it() -> None:
    loop, budget = asyncio.get_running_loop(), RetryBudget(5.0, 2)
    came: list[float] = []

    async def call() -> None:
        came.append(loop.time())
        if len(came) <= CALLS:
            raise UpstreamError("upstream_rate_limited", retryable=True, status=429, retry_after_s=TOLD_S)

    await asyncio.gather(*(with_retries(call, Kept(), budget, {}) for _ in range(CALLS)))
    waited = [at - came[CALLS - 1] for at in came[CALLS:]]
    assert min(waited) > TOLD_S - 0.1
    assert max(waited) - min(waited) > budget.first_pause_s / 4


async def test_a_wait_of_nothing_is_still_one() -> None:
    loop, budget = asyncio.get_running_loop(), RetryBudget(5.0, 3)
    began, calls = loop.time(), 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        if calls <= budget.times:
            raise UpstreamError("upstream_rate_limited", retryable=True, status=429, retry_after_s=0.0)

    await with_retries(call, Kept(), budget, {})
    assert loop.time() - began > budget.first_pause_s * 3
