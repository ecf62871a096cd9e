"""Owns which message of a chat the AI SDK's clients mean: they name the chat, seldom the message."""

from __future__ import annotations

import asyncio

from gateway.access.principal import Principal
from gateway.live.finding import LOOK_EVERY_S, find_message, look_patiently, restoring_s
from gateway.protocols.ui_message_stream import NAME, prologue, ui_message_id
from gateway.reading import latest_message
from gateway.services import Services
from gateway.ui.ui_position import parse_run_id
from shared import events as ev
from shared.errors import NotFound
from shared.feed import needs_action
from shared.ids import MessageRef
from shared.log.types import Meta


async def base_of(services: Services, ref: MessageRef) -> int:
    """Return how many chunks the sender of a message has already: those that rebuild what it continues."""
    created = await _created(services, ref)
    if created is None:
        return 0
    return len(prologue(ref.message_id, created.options if created.wire == NAME else {})) - 1


async def is_named(services: Services, who: Principal, ref: MessageRef, wanted: str) -> bool:
    """Whether a client means this message: by its id, by the one it shows, or by its run's."""
    run = parse_run_id(who, wanted)
    if wanted == ref.message_id or (run is not None and run[0] == ref):
        return True
    created = await _created(services, ref)
    return created is not None and ui_message_id(ref.message_id, created.options) == wanted


async def latest(services: Services, who: Principal, chat_id: str) -> MessageRef | None:
    """Return the message that a viewer with a position in "the chat" means."""
    active = await services.log.active(who.scope, chat_id)
    return await latest_message(services, who, chat_id) if active is None else who.ref(chat_id, active)


async def find_latest(services: Services, who: Principal, chat_id: str) -> MessageRef:
    """Return the same for a viewer who has a part of it: waits for an owner that may yet restore it.

    Raises `NotFound` or `Gone`.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + restoring_s(services.hub)
    while (ref := await latest(services, who, chat_id)) is None:
        if loop.time() >= end:
            raise NotFound("no such message")
        await asyncio.sleep(LOOK_EVERY_S)
    await find_message(services.hub, ref, patient=True)
    return ref


async def undelivered(services: Services, who: Principal, chat_id: str) -> MessageRef | None:
    """Return the message that the chat's viewers have still to get: the one in flight, or an end that nobody got.

    Not one that was stopped (whoever stopped it knows), nor one whose log is no longer kept.
    """
    meta = await look_patiently(services.hub, lambda: _latest_record(services, who, chat_id))
    if meta is None or (meta.terminal and (meta.state in ("aborted", "deleted") or await _is_over(services, meta))):
        return None
    return meta.ref if not meta.terminal or await services.log.read(meta.ref, None, 1) else None


async def _latest_record(services: Services, who: Principal, chat_id: str) -> Meta | None:
    ref = await latest(services, who, chat_id)
    return None if ref is None else await services.log.meta(ref)


async def _is_over(services: Services, meta: Meta) -> bool:
    """Whether an end that somebody got is given to nobody any more.

    We know only that the network acknowledged it: that may have been a proxy, or another tab. So for a grace period
    the whole answer is given once more. To give it twice shows what is there already; not to give it could leave
    half an answer on a page for good. There are two exceptions. An error is given once: a client that resumes whenever
    it sees one would go round and round. So are tool calls that wait for an output: a client would run them again.
    """
    if not meta.told:
        return False
    if meta.state != "done" or meta.now - meta.told_at >= services.settings.end_grace_s * 1000:
        return True
    final = await services.log.final(meta.ref)
    return final is None or needs_action(final)


async def _created(services: Services, ref: MessageRef) -> ev.Created | None:
    entries = await services.log.read(ref, None, 1)
    event = entries[0].event if entries else None
    return event if isinstance(event, ev.Created) else None
