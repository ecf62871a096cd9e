"""Owns ending tasks: whoever starts one cancels it and waits for its end."""

from __future__ import annotations

import asyncio


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end; its own failure is not ours to raise."""
    task.cancel()
    await asyncio.wait({task})
