"""Owns what `python -m gateway` does: settings, checks, the server. What cannot work is said, with status 1 or 2."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

import uvloop
from pydantic import ValidationError

from gateway.app import create_app
from gateway.server import GatewayServer, bind
from gateway.settings import GatewaySettings
from shared.commands import Commands
from shared.descriptors import take_descriptors
from shared.errors import Unavailable, UnsafeRedis
from shared.garbage import tune_collector
from shared.link import ReplyError
from shared.logs import configure_logging
from shared.redis import check_queue, check_redis, command_link
from shared.settings import faults

log = logging.getLogger(__name__)

WRONG = 2
"""Exit status for what trying again will not mend: settings, keys, models, an unsafe Redis."""
FAILED = 1
"""Exit status for what may pass: a port that is taken, a Redis that does not answer."""
REDIS_WITHIN_S = 15.0


def main() -> None:
    """Read the settings, check what can be checked, serve."""
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        for fault in faults(error):
            _say(fault)
        sys.exit(WRONG)
    configure_logging("gateway", settings.log_level)
    try:
        asyncio.run(_check_redis(settings))
        app = create_app(settings)
    except (UnsafeRedis, ValueError) as error:
        _exit(str(error), WRONG)
    except ReplyError as error:
        _exit(f"Redis refuses to be checked (TAILRACE_REDIS_URL): {error}", WRONG)
    except Unavailable:
        _exit(f"Redis did not answer within {REDIS_WITHIN_S:.0f} s (TAILRACE_REDIS_URL)", FAILED)
    try:
        sock = bind(
            settings.host, settings.port, reuse_port=settings.reuse_port, send_buffer=settings.viewer_buffer_bytes
        )
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        taken = error.errno == errno.EADDRINUSE
        why = "is taken; set TAILRACE_PORT to a free port" if taken else f"cannot be listened on: {error.strerror}"
        _exit(f"{where} {why}", FAILED)
    host, port = sock.getsockname()[:2]
    log.info("listening", extra={"host": host, "port": port, "open": settings.open})
    take_descriptors(settings.max_viewers)
    tune_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(GatewayServer(app, settings).serve([sock]))


async def _check_redis(settings: GatewaySettings) -> None:
    await _ask(settings.redis_url, check_redis, wait_s=REDIS_WITHIN_S)
    if settings.queue_url != settings.redis_url:
        await _ask(settings.queue_url, check_queue)


async def _ask(url: str, check: Callable[[Commands], Awaitable[None]], *, wait_s: float | None = None) -> None:
    link = command_link(url, name="boot")
    try:
        await link.open(wait_s=wait_s)
        await check(link)
    finally:
        await link.close()


def _exit(reason: str, status: int) -> NoReturn:
    _say(reason)
    sys.exit(status)


def _say(reason: str) -> None:
    sys.stderr.write(f"tailrace gateway: {reason}\n")
