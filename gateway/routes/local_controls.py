"""Owns the buttons of the demo page that break something. They exist on a local run only (`TAILRACE_LOCAL`)."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.routes.request import json_answer, services_of
from gateway.routes.table import Operation
from gateway.settings import GatewaySettings
from shared.errors import NotFound

log = logging.getLogger(__name__)


class BrokenAnswer(Struct, frozen=True):
    """What was broken."""

    broken: str


def make_operations(settings: GatewaySettings) -> tuple[Operation, ...]:
    """Return the operation, or none of it where the gateway is not the toy of one person on one machine."""
    if not (settings.local and settings.open):
        return ()
    return (
        Operation(
            name="break_something",
            method="POST",
            path="/__local/{what}",
            handler=break_something,
            summary="Break a connection or a process, to see the answer survive.",
            answers={200: (BrokenAnswer,)},
        ),
    )


async def break_something(request: Request) -> Response:
    # A header that no other page can send unasked: browsers ask first, and we do not say yes.
    if request.headers.get("x-tailrace-local") != "1":
        raise NotFound("not found")
    services = services_of(request)
    what: str = request.path_params["what"]
    match what:
        case "cut":
            for viewer in tuple(services.hub.viewers):
                viewer.abandon()
        case "kill-gateway":
            log.warning("killed from the demo page")
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill-worker":
            os.kill(_pid_of(services.settings, "worker"), signal.SIGKILL)
        case _:
            raise NotFound("not found")
    return json_answer(BrokenAnswer(what))


def _pid_of(settings: GatewaySettings, name: str) -> int:
    """Return the process id that the launcher wrote down; raise `NotFound` if it runs no such child now."""
    try:
        pids = msgspec.json.decode(Path(settings.local_pidfile).read_bytes(), type=dict[str, int])
        return pids[name]
    except (OSError, KeyError, msgspec.DecodeError):
        raise NotFound(f"the launcher runs no {name}") from None
