"""Owns ending tasks: whoever starts one cancels it and waits for its end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks, wherever there is one, and wait for the end of all; raise our caller's own cancellation alone.

    A task's failure is not ours to raise. We say it in the log, unless somebody has looked at it already.
    """
    there = [task for task in tasks if task is not None]
    for task in there:
        if not task.done():  # asyncio takes the failure of one that is cancelled afterwards for looked at
            task.cancel()
    if there:
        await asyncio.wait(there)
    for task in there:
        # `_log_traceback` is what asyncio goes by. It would say it, too, but not before the task is collected.
        if not task.cancelled() and task._log_traceback:
            log.error("task failed", extra={"task": task.get_name()}, exc_info=task.exception())
