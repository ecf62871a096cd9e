"""Owns writing one message's log to its end: what waits, then the end itself, or the message handed back.

`finish` and `release` come when the sending is over. Lost on a crash: what was not yet acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

from shared.errors import StorageFull, Unavailable
from shared.events import End, TerminalState, encode_event
from shared.fold import Fold, fold_in_slices
from shared.log.types import Ending, Reply
from shared.message import Message, encode_message
from worker.sender import NotOurs, Sender

log = logging.getLogger(__name__)

_FULL_S = 3.0
"""How long handing back waits for room in a full Redis."""


class Writer(Sender):
    """Writes what it is given to the log of a message that we own, and ends it."""

    async def finish(self, state: TerminalState, end: End) -> str:
        """End the message: what waits, then the end; return the state that stands (a decided one wins).

        Sending must have ended. Raises `NotOurs`, or `Unavailable` when Redis stayed away for too long.
        """
        self.close()
        final = await self._final(end)
        payload = encode_event(end)
        patience = self._loop.time() + self._limits.outage_s
        if self._store.waits_for_replicas:
            # A decision must not be ahead of the log: whoever publishes it writes the end alone.
            try:
                await self._patiently(patience, self.flush, full_until=0.0)
                await self._patiently(patience, lambda: self._decide(Ending(state, final, payload)))
            except StorageFull:
                # FINISH makes its own room and takes what waits along.
                log.warning("ended without a decision, Redis is full", extra=self._fields())
        reply = await self._patiently(patience, lambda: self._finish(state, final, payload))
        return reply.state or state

    async def release(self, *, refund: bool) -> None:
        """Write what waits and hand the message back. Sending must have ended. Raises as `finish`.

        What a Redis that stays full refuses is left out, as after a crash: a drain has little time.
        """
        self.close()
        now = self._loop.time()
        patience = now + self._limits.outage_s
        try:
            await self._patiently(patience, self.flush, full_until=now + _FULL_S)
        except StorageFull:
            log.warning("handed back without what waits, Redis is full", extra=self._fields())
        reply = await self._patiently(patience, lambda: self._store.release(self._own, refund=refund))
        if reply.status != "ok":
            raise NotOurs

    async def _decide(self, ending: Ending) -> Reply:
        reply = await self._store.decide(self._own, ending)
        if reply.status != "ok":
            raise NotOurs
        return reply

    async def _finish(self, state: TerminalState, final: bytes, end: bytes) -> Reply:
        while True:
            before = tuple(self.ledger.unsent(self.acked, None))
            reply = await self._store.finish(self._own, self.acked + 1, Ending(state, final, end, before))
            if reply.status == "ok":
                return reply
            await self.mend(reply)

    async def _patiently(
        self, until: float, call: Callable[[], Awaitable[Reply]], *, full_until: float = math.inf
    ) -> Reply:
        """Repeat `call`, which must be idempotent, while Redis is away or full: up to `until`, or `full_until`."""
        while True:
            try:
                return await call()
            except Unavailable as error:
                if self._loop.time() > (min(until, full_until) if isinstance(error, StorageFull) else until):
                    raise
                await asyncio.sleep(0.2)

    async def _final(self, end: End) -> bytes:
        """Fold the whole log as it will be. In slices: a long message must not stop the others' heartbeats."""
        ref = self._own.ref
        fold = Fold(Message(chat_id=ref.chat_id, message_id=ref.message_id))
        await fold_in_slices(fold, self.ledger.events())
        return encode_message(fold.extend([end]))
