"""Owns repeating a call that failed before its first token: back-off with jitter, Retry-After, inside a deadline."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from shared.events import Event, Upstream
from worker.upstreams.base import UpstreamError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How long, counted from the first call, and how often a call may be repeated."""

    within_s: float
    times: int
    first_pause_s: float = 0.2
    longest_pause_s: float = 8.0


async def with_retries(
    call: Callable[[], AsyncGenerator[Event, None]], budget: RetryBudget, fields: dict[str, object]
) -> AsyncGenerator[Event, None]:
    """Yield what `call()` yields, calling again while it fails before its first token in a way that may pass.

    After the first token an error is the caller's: half an answer cannot be called back. `fields` go into the log.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + budget.within_s
    pause = budget.first_pause_s
    for failures in range(budget.times + 1):
        begun = False
        try:
            async with aclosing(call()) as events:
                async for event in events:
                    begun = begun or not isinstance(event, Upstream)
                    yield event
            return
        except UpstreamError as error:
            wait = pause * random.uniform(0.5, 1.0) if error.retry_after_s is None else error.retry_after_s
            if begun or not error.retryable or failures == budget.times or loop.time() + wait > end:
                raise
            log.info("upstream call repeated", extra={**fields, "code": error.code, "status": error.status})
        await asyncio.sleep(wait)
        pause = min(pause * 2, budget.longest_pause_s)
