"""Owns the use case "delete": forget the content at once, have the model stop, and tell the user's feed and index."""

from __future__ import annotations

from gateway.access.principal import Principal
from gateway.services import Services
from shared.ids import MessageRef
from shared.jobs import Run
from shared.log.so_far import read_so_far
from shared.orphans import have_cancelled, run_left_behind


async def delete(services: Services, who: Principal, ref: MessageRef) -> bool:
    """Forget the message, running or not; return whether there was one."""
    run = await _run_of(services, ref)  # the log is what knows it
    deleted = await services.log.delete(ref)
    if deleted:
        await have_cancelled(services.dispatcher, run)
        await services.feed.deleted(ref)
    await services.index.remove(who, ref.member)
    return deleted


async def _run_of(services: Services, ref: MessageRef) -> Run | None:
    """Return the run upstream of an unended message. Its worker cancels it too, if it lives: that is not known here."""
    meta = await services.log.meta(ref)
    if meta is None or meta.terminal:
        return None
    return run_left_behind(ref, (await read_so_far(services.log, ref)).events())
