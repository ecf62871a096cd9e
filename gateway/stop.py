"""Owns the use case "stop": durable intent first, then the truth about whether it has taken effect."""

from __future__ import annotations

import asyncio
from typing import Literal

from gateway.access.principal import Principal
from gateway.reading import why_missing
from gateway.services import Services
from shared.errors import Gone, TailraceError, Unavailable
from shared.ids import MessageRef
from shared.log.ending import end_unowned

StopState = Literal["stopping", "done", "failed", "aborted"]
TRIES = 20
PAUSE_S = 0.02


async def stop(services: Services, who: Principal, ref: MessageRef, *, reason: str = "user") -> StopState:
    """Ask the message to stop and return how it stands; as often as you like, from any replica.

    `stopping`: its worker has been told and has not confirmed. Otherwise the state in which it ended: at once
    if nobody was working on it, and possibly `done` if the end came first. Raises `NotFound` or `Gone`.
    """
    try:
        state = await _stop(services, who, ref, reason)
    except TailraceError as error:
        services.metrics.stops.labels(error.code).inc()
        raise
    services.metrics.stops.labels(state).inc()
    if state != "stopping":
        await services.index.remove(who, ref.member)
    return state


async def _stop(services: Services, who: Principal, ref: MessageRef, reason: str) -> StopState:
    for _ in range(TRIES):
        reply = await services.log.stop(ref, reason)
        match reply.status, reply.state:
            case "stopping", _:
                return "stopping"
            case "gone", _:
                raise await why_missing(services, who, ref)
            case "final", "deleted":
                raise Gone("the message was deleted")
            case "final", ("done" | "failed" | "aborted") as state:
                return state
        if (ended := await _end(services, ref)) is not None:
            return ended
        await asyncio.sleep(PAUSE_S)  # somebody else acts on it just now: see what became of it
    raise Unavailable("the message keeps changing")


async def _end(services: Services, ref: MessageRef) -> StopState | None:
    """End a message that nobody owns; None if that is no longer so."""
    meta = await services.log.meta(ref)
    if meta is None or meta.terminal or meta.leased:
        return None
    reply = await end_unowned(services.log, services.dispatcher, meta, "aborted", None)
    if reply.status != "ok":
        return None
    match reply.state:
        case "done" | "failed" | "aborted":
            return reply.state
    raise AssertionError(reply)
