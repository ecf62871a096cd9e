"""Owns the threads that agents block in (`asyncio.to_thread`): one for each that a worker runs at a time.

asyncio's own are a handful, for which all agents of a worker would wait while a few slow tools have them. They are
made when needed.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

_SPARE = 32


def give_threads(slots: int) -> ThreadPoolExecutor:
    """Have the running loop lend threads to so many agents at a time, and some more; end it with `end_threads`."""
    threads = ThreadPoolExecutor(slots + _SPARE, thread_name_prefix="agent")
    asyncio.get_running_loop().set_default_executor(threads)
    return threads


async def end_threads(threads: ThreadPoolExecutor) -> None:
    """Wait until all have ended what they do. Nothing ends a thread that does not: give up by cancelling."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        threads.shutdown(cancel_futures=True)
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, name="end of the threads", daemon=True).start()
    await ended.wait()
