"""Owns waiting for a message's end without delivering it: what a request that is no stream does.

It follows the log as a viewer does, so that a lost worker, a lost Redis link and a drain mean to it what they mean
to a stream. Leaving does not stop the message.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from starlette.types import Receive

from gateway.live.finding import restoring_s
from gateway.live.hub import Hub
from gateway.live.transport import until_left
from gateway.live.viewer import Viewer
from gateway.protocols.base import Wire
from shared.ids import MessageRef

Waited = Literal["ended", "broken", "left", "late"]


_QUIET = Wire(name="quiet", frame=lambda entry_id, raw: b"", breaks="last")


class _NoSink:
    """Takes the nothing that such a viewer has to say."""

    started = True
    direct = None
    gone = False
    backlog = 0
    taken = 0

    async def send(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass


async def wait_end(hub: Hub, ref: MessageRef, receive: Receive, *, until: float) -> Waited:
    """Return once the message has ended, the client has left, it is `until` (loop time), or we can follow no longer."""
    meta = await hub.log.meta(ref)
    if meta is not None and meta.terminal:
        return "ended"
    async with hub.tail(ref) as tail:
        viewer = Viewer(
            tail,
            hub.pages,
            _QUIET,
            _NoSink(),
            cursor=None if meta is None else meta.cursor,
            buffer_bytes=hub.settings.viewer_buffer_bytes,
            break_at=hub.break_at(_QUIET),
            restoring_s=restoring_s(hub),
        )
        try:
            async with until_left(receive, lambda: viewer.stop("left")), asyncio.timeout_at(until):
                with hub.watching(viewer):
                    return await viewer.run()
        except TimeoutError:
            return "late"
