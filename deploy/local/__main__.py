"""`python -m deploy.local`: start everything, say what to open, stop everything on Ctrl-C.

Tasks: `_serve` runs until a signal; `_main` cancels it and then stops the children, so none outlives the launcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.local.crew import Crew
from deploy.local.plan import make_plan
from deploy.local.ports import require_free
from deploy.local.redis_server import find_redis_server
from deploy.local.settings import LaunchError, LaunchSettings

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text: str) -> None:
    """Print one message to the terminal now; a closed terminal is no reason to fail."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def announcement(settings: LaunchSettings, redis_server: str) -> str:
    """Return what is printed once everything is ready: a transcript to try, then what to open."""
    first, second = (f"http://{settings.host}:{port}" for port in settings.ports)
    body = '{"messages":[{"role":"user","content":"Tell me about rivers"}]}'
    return f"""
  model   {_models(settings)}
  redis   {redis_server}
  logs    {settings.run_dir}/*.log

An answer over the first gateway; cut it with Ctrl-C, then resume it over the second with the last id you saw:
  curl -N {first}/chats/demo/messages -H 'content-type: application/json' -H 'accept: text/event-stream' -d '{body}'
  curl -N {second}/chats/demo/stream -H 'last-event-id: ID'

Tailrace is ready: open {first}/ (the other gateway is {second}/). Ctrl-C stops everything."""


def _models(settings: LaunchSettings) -> str:
    if settings.models_file is not None:
        return f"{', '.join(settings.models_file.names)} from {settings.models_file.path}"
    return f"{settings.openai.model} at {settings.openai.base_url}" if settings.openai else "scripted"


async def _serve(crew: Crew, settings: LaunchSettings, redis_server: str) -> None:
    await crew.start(settings.ready_within_s)
    say(announcement(settings, redis_server))
    await crew.keep()


async def _main(settings: LaunchSettings, redis_server: str) -> int:
    crew = Crew(make_plan(settings, redis_server), settings.run_dir, say)
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            crew.kill()
        asked.set()

    loop = asyncio.get_running_loop()
    for each in _SIGNALS:
        loop.add_signal_handler(each, on_signal)
    serving = asyncio.create_task(_serve(crew, settings, redis_server), name="serve")
    waiting = asyncio.create_task(asked.wait(), name="wait for a signal")
    try:
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        if asked.is_set():
            say("\nStopping.")
    finally:
        for task in (waiting, serving):
            task.cancel()
        await asyncio.wait([serving, waiting])
        await crew.stop()
    if not serving.cancelled() and (error := serving.exception()) is not None:
        raise error
    say("Stopped.")
    return 0


@contextlib.contextmanager
def _own(run_dir: Path) -> Iterator[None]:
    """Hold `run_dir` for this launch alone and empty it of the previous one's files."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LaunchError(
                f"Another launch is using {run_dir}. Stop it, or give this one a folder of its own:\n"
                f"TAILRACE_RUN_DIR={run_dir}-2 make run PORT=8080"
            ) from None
        shutil.rmtree(run_dir / "redis", ignore_errors=True)
        for old in [*run_dir.glob("*.log"), *run_dir.glob("children.*")]:
            old.unlink(missing_ok=True)
        yield


def main() -> int:
    """Run until told to stop; return the exit code."""
    try:
        settings = LaunchSettings.from_environment(os.environ)
        require_free(settings.host, settings.ports)
        redis_server = find_redis_server()
        with _own(settings.run_dir):
            say("Starting Redis, the model, the worker and two gateways.")
            return asyncio.run(_main(settings, redis_server))
    except LaunchError as error:
        print(f"\n{error}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
