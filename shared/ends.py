"""Owns what is told beside the log of every end that a process writes: its user's feed hears of it, and the message is
taken out of the user's index of what is in flight (`gateway.index`).

Both may be missed by a process that dies in between: readers of the index look at the records themselves.
"""

from __future__ import annotations

import asyncio
import logging

from shared.commands import Commands
from shared.errors import TailraceError
from shared.events import TerminalState
from shared.feed import Feed
from shared.ids import MessageRef
from shared.link import ReplyError
from shared.log.keys import user_key

log = logging.getLogger(__name__)


class Ends:
    """Tells of ends. Safe to share between tasks; holds no state of its own."""

    def __init__(self, link: Commands, feed: Feed, *, deadline_s: float = 2.0) -> None:
        self._link = link
        self._feed = feed
        self._deadline_s = deadline_s

    async def tell(self, ref: MessageRef, state: TerminalState, final: bytes) -> None:
        """Tell of one. The message has ended, so failing to tell of it fails nothing."""
        await asyncio.gather(self._feed.ended(ref, state, final), self._take_out(ref))

    async def _take_out(self, ref: MessageRef) -> None:
        try:
            await self._link.call("ZREM", user_key(ref.tenant), ref.member, deadline_s=self._deadline_s)
        except (TailraceError, ReplyError) as error:
            log.info("left in its user's index", extra={**ref.fields, "reason": str(error)})
