"""Owns the index of messages to look at again, by time, and the sweep that finds what every index has forgotten.

Any of it may be lost: see PROTOCOL.md, section 14.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from shared.commands import Arg, Commands
from shared.errors import InvalidId
from shared.ids import MessageRef
from shared.log.keys import DUE, META_PATTERN, SWEEP, ref_of_meta_key
from shared.log.scripts import index_script
from shared.log.types import TERMINAL

log = logging.getLogger(__name__)


class Appointments:
    """The appointments with the reapers, over one Redis. Safe to share between tasks; holds no state of its own."""

    def __init__(self, link: Commands, *, deadline_s: float) -> None:
        self._link = link
        self._deadline_s = deadline_s

    async def watch(self, ref: MessageRef, delay_ms: int) -> None:
        """Have a reaper look at the message `delay_ms` from now (replaces an earlier appointment)."""
        await self._appoint((ref,), delay_ms, sooner_only=False)

    async def watch_all(self, refs: Sequence[MessageRef], delay_ms: int) -> None:
        """Do as `watch` for all of them with one command."""
        await self._appoint(refs, delay_ms, sooner_only=False)

    async def _appoint(
        self, refs: Sequence[MessageRef], delay_ms: int, *, sooner_only: bool, deadline_s: float | None = None
    ) -> None:
        args: tuple[Arg, ...] = (delay_ms, int(sooner_only), *(ref.member for ref in refs))
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        await self._link.script(index_script("due"), (DUE,), args, deadline_s=deadline_s)

    async def unwatch(self, ref: MessageRef) -> None:
        """Cancel the appointment."""
        await self._link.call("ZREM", DUE, ref.member)

    async def overdue(self, count: int, delay_ms: int) -> list[MessageRef]:
        """Take up to `count` messages whose time has come; they come up again in `delay_ms` unless unwatched."""
        members = await self._link.script(
            index_script("overdue"), (DUE,), (count, delay_ms), deadline_s=self._deadline_s
        )
        refs = []
        for member in members:
            try:
                refs.append(MessageRef.parse_member(member.decode()))
            except (InvalidId, UnicodeDecodeError):  # nobody's, and it must not keep the others from being looked at
                log.warning("appointment dropped: names no message", extra={"member": repr(member[:200])})
                await self._link.call("ZREM", DUE, member, deadline_s=self._deadline_s)
        return refs

    async def take_sweep(self, every_ms: int) -> bool:
        """Return whether it is the caller's turn to `sweep`: once in `every_ms`, whoever asks first."""
        return await self._link.call("SET", SWEEP, "1", "NX", "PX", every_ms, deadline_s=self._deadline_s) is not None

    async def sweep(self, position: str, count: int = 500) -> tuple[str, list[MessageRef]]:
        """Look through a part of all records, from `position` ("0" first): where to go on ("0": done), and messages
        that have not ended. Finds what every index has forgotten; each call is one small step for Redis.
        """
        after, keys = await self._link.scan(position, META_PATTERN, count, deadline_s=self._deadline_s)
        calls = (self._link.call("HGET", key, "st", deadline_s=self._deadline_s) for key in keys)
        states = await asyncio.gather(*calls)
        living = [key for key, state in zip(keys, states, strict=True) if state and state.decode() not in TERMINAL]
        return after, [ref for key in living if (ref := _ref_of(key)) is not None]


def _ref_of(key: bytes) -> MessageRef | None:
    try:
        return ref_of_meta_key(key.decode())
    except (InvalidId, UnicodeDecodeError):
        log.warning("record key names no message", extra={"key": repr(key[:200])})
        return None
