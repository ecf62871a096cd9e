"""Owns finding a message for somebody who has a part of it: patience while its owner may yet restore it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.live.hub import Hub
from shared.errors import Gone, NotFound
from shared.ids import MessageRef
from shared.log.types import Meta

T = TypeVar("T")

RESTORE_GRACE_S = 2.0
"""Beyond a lease, how long a vanished message may come back before we say that it is gone."""

LOOK_EVERY_S = 0.25


def restoring_s(hub: Hub) -> float:
    """Return for how long the owner of a message that Redis has lost may yet restore it."""
    return hub.settings.lease_s + RESTORE_GRACE_S


async def find_message(hub: Hub, ref: MessageRef, *, patient: bool) -> Meta:
    """Return the message's record; raise `Gone` or `NotFound`.

    `patient`: the caller knows that there was such a message, so one of which nothing is remembered is waited for.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + (restoring_s(hub) if patient else 0.0)
    while (meta := await hub.log.meta(ref)) is None:
        if await hub.log.tombstone(ref) is not None:
            raise Gone("the message is over and no longer kept")
        if loop.time() >= end:
            raise NotFound("no such message")
        await asyncio.sleep(LOOK_EVERY_S)
    if meta.state == "deleted":
        raise Gone("the message was deleted")
    return meta


async def look_patiently(hub: Hub, look: Callable[[], Awaitable[T | None]]) -> T | None:
    """Return what `look` finds; None only when no owner may still be restoring what Redis has lost.

    For clients that never come back once they were told "nothing more", and have no cursor to tell us of a message.
    """
    while True:
        found = await look()
        if found is not None or not hub.restoring:
            return found
        await asyncio.sleep(LOOK_EVERY_S)
