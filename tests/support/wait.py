"""Owns waiting in tests: for a condition that has no event of its own, looked at often, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

LOOK_EVERY_S = 0.005


async def wait_until(condition: Callable[[], Any], deadline_s: float = 10.0, what: str = "") -> Any:
    """Ask `condition`, which may be async, until it holds, and return what it said; `TimeoutError` after `deadline_s`.

    `what` says in the error what was waited for, or what it means that it did not come.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while True:
        asked = condition()
        said = await asked if isinstance(asked, Awaitable) else asked
        if said:
            return said
        if loop.time() > end:
            raise TimeoutError(f"{what or 'the condition does not hold'} (after {deadline_s:g} s; last: {said!r})")
        await asyncio.sleep(LOOK_EVERY_S)


async def pass_turns(count: int) -> None:
    """Let the loop turn so often: for what is due in the next turns or not at all, so that nothing tells of it."""
    for _ in range(count):
        await asyncio.sleep(0)
