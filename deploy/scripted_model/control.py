"""The routes beside the model: health, model list, and the levers for tests (journal, reset, fault switch)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response

from deploy.scripted_model.bodies import decode
from deploy.scripted_model.faults import FaultSwitch, SwitchMode
from deploy.scripted_model.refusal import Refused
from deploy.scripted_model.settings import MODELS
from deploy.scripted_model.world import World


class SwitchBody(msgspec.Struct, frozen=True):
    """The body of POST /__faults."""

    mode: SwitchMode = SwitchMode.NONE
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    seed: int = 0


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _world(request: Request) -> World:
    state: State = request.app.state
    world = state.world
    if not isinstance(world, World):
        raise TypeError("the application has no world")
    return world


async def show_health(request: Request) -> Response:
    """Say that the process serves, and how many streams are open."""
    return _json({"status": "ok", "live_streams": _world(request).live})


async def list_models(_: Request) -> Response:
    """List the models; any other name is answered just the same."""
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "tailrace"} for name in MODELS]
    return _json({"object": "list", "data": models})


async def show_journal(request: Request) -> Response:
    """Return the entries after number ?since."""
    since = request.query_params.get("since", "0")
    if not (since.isascii() and since.isdigit() and len(since) < 16):
        return _json({"error": {"message": "since must be the number of an entry."}}, 400)
    journal = _world(request).journal
    entries = [entry.as_json() for entry in journal.since(int(since))]
    return _json({"entries": entries, "last": journal.last_id, "live_streams": _world(request).live})


async def reset_world(request: Request) -> Response:
    """Forget ended entries, counters, kept responses and the switch."""
    _world(request).reset()
    return _json({"status": "reset"})


async def set_switch(request: Request) -> Response:
    """Throw the fault switch for all new calls."""
    try:
        body = decode(await request.body(), SwitchBody)
    except Refused as refusal:
        return _json({"error": {"message": refusal.message}}, refusal.status)
    _world(request).switch = FaultSwitch(body.mode, body.probability, body.seed)
    return _json({"mode": body.mode, "probability": body.probability, "seed": body.seed})
