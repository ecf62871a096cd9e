"""Owns repeating a call that failed before its first token: back-off with jitter, Retry-After, inside a deadline."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from worker.upstreams.base import Sink, UpstreamError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How long, counted from the first call, and how often a call may be repeated."""

    within_s: float
    times: int
    first_pause_s: float = 0.2
    longest_pause_s: float = 8.0


async def with_retries(
    call: Callable[[], Awaitable[None]], sink: Sink, budget: RetryBudget, fields: dict[str, object]
) -> None:
    """Await `call()`, again while it fails before `sink` has its first token, in a way that may pass.

    After the first token an error is the caller's: half an answer cannot be called back. `fields` go into the log.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + budget.within_s
    pause = budget.first_pause_s
    for failures in range(budget.times + 1):
        try:
            return await call()
        except UpstreamError as error:
            # Beyond what the upstream asks for, which is often one moment for all that it has refused, or none.
            wait = (error.retry_after_s or 0.0) + pause * random.uniform(0.5, 1.0)
            if sink.begun or not error.retryable or failures == budget.times or loop.time() + wait > end:
                raise
            log.info("upstream call repeated", extra={**fields, **error.for_log})
        await asyncio.sleep(wait)
        pause = min(pause * 2, budget.longest_pause_s)
