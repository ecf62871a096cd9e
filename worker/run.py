"""Owns what `python -m worker` does: settings from the environment in, an exit code out; 2 says they are wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import uvloop
from pydantic import ValidationError

from shared.descriptors import take_descriptors
from shared.errors import UnsafeRedis
from shared.garbage import tune_collector
from shared.logs import configure_logging
from shared.models import load_models
from shared.settings import faults
from worker.main import WorkerProcess
from worker.settings import WorkerSettings
from worker.threads import end_threads, give_threads

_END_S = 5.0


async def _work(settings: WorkerSettings) -> None:
    models = load_models(settings.upstreams_file, os.environ)
    threads = give_threads(settings.worker_slots)
    await WorkerProcess(settings, models).run()
    await _end_leftovers(threads)


async def _end_leftovers(threads: ThreadPoolExecutor) -> None:
    """Cancel what still runs; leave if something ignores that, as an agent or its thread can: a loop waits for ever."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    ending = asyncio.create_task(end_threads(threads), name="agents' threads")
    stuck = (await asyncio.wait({*left, ending}, timeout=_END_S))[1]
    if stuck:
        names = sorted(task.get_name() for task in stuck)
        logging.getLogger("worker").error("left behind: it ignores its cancellation", extra={"tasks": names})
        logging.shutdown()
        os._exit(0)


def _run(loop: asyncio.AbstractEventLoop, settings: WorkerSettings) -> None:
    """Work until a signal, whatever task of an agent's calls for the end of the process: that stops the loop alone."""
    work = loop.create_task(_work(settings), name="work")
    while True:
        try:
            return loop.run_until_complete(work)
        except SystemExit:
            if work.done():
                raise
            logging.getLogger("worker").error("a task of an agent's called for the end of the process")


def main() -> int:
    """Run until a signal; return the exit code."""
    try:
        settings = WorkerSettings()
    except ValidationError as error:
        return _wrong(*faults(error))
    try:
        configure_logging("worker", settings.log_level)
        take_descriptors(2 * settings.worker_slots)  # a model's call each, and an agent's
        tune_collector()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            _run(runner.get_loop(), settings)
    except (ValueError, UnsafeRedis) as error:
        return _wrong(str(error))
    except OSError as error:
        logging.getLogger("worker").error("cannot start", extra={"reason": str(error)})
        return 1
    return 0


def _wrong(*reasons: str) -> int:
    for reason in reasons:
        sys.stderr.write(f"tailrace worker: {reason}\n")
    return 2
