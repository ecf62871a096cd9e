"""Owns a user's index of messages in flight: what `GET /active` lists and what the bound on them counts.

The index is written beside the log, not with it, so it may name messages that are over, and after a crash in
between may miss one. Whoever reads it looks at each message's own record and takes the finished ones out.
"""

from __future__ import annotations

import asyncio

from gateway.access.principal import Principal
from shared.commands import Commands
from shared.ids import MessageRef
from shared.log.keys import user_key
from shared.log.log import Log
from shared.log.types import Meta

AT_ONCE = 100
"""Records read at a time."""
MOST_LISTED = 1000
RECOUNT_EVERY_S = 1.0
MOST_REMEMBERED = 10_000


class UserIndex:
    """The indexes of all users, in Redis."""

    def __init__(self, link: Commands, log: Log, *, keep_s: int) -> None:
        """`keep_s`: the longest that a message can be in flight, and then some."""
        self._link = link
        self._log = log
        self._keep_s = keep_s
        self._looked: dict[str, float] = {}

    @staticmethod
    def _key(who: Principal) -> str:
        # Named by the scope, so that whoever holds a message's ref and record can name it too.
        return user_key(who.scope, who.user)

    async def add(self, who: Principal, ref: MessageRef, now_s: float) -> None:
        """Note a started message (again)."""
        key = self._key(who)
        call = self._link.call
        await asyncio.gather(
            call("ZADD", key, "NX", f"{now_s:.3f}", ref.member),
            call("ZREMRANGEBYSCORE", key, "-inf", f"{now_s - self._keep_s:.3f}"),
            call("PEXPIRE", key, self._keep_s * 1000),
        )

    async def remove(self, who: Principal, *members: str) -> None:
        """Take messages out."""
        if members:
            await self._link.call("ZREM", self._key(who), *members)

    async def count(self, who: Principal) -> int:
        """Return how many messages are in the index: at least those in flight."""
        return int(await self._link.call("ZCARD", self._key(who)))

    async def recount(self, who: Principal) -> int:
        """Return how many messages are in flight; looks at the records at most once a second for one user.

        A user at their bound pays for looking at all of it with a wait, not with our time.
        """
        now = asyncio.get_running_loop().time()
        if now - self._looked.get(who.scope, -1e9) >= RECOUNT_EVERY_S:
            if len(self._looked) >= MOST_REMEMBERED:
                self._looked.clear()
            self._looked[who.scope] = now
            await self.in_flight(who)
        return await self.count(who)

    async def in_flight(self, who: Principal) -> list[Meta]:
        """Return the records of the user's messages in flight, oldest first, and take the others out."""
        raw = await self._link.call("ZRANGE", self._key(who), 0, MOST_LISTED - 1)
        found: list[Meta] = []
        for at in range(0, len(raw), AT_ONCE):
            members = [member.decode() for member in raw[at : at + AT_ONCE]]
            metas = await asyncio.gather(*(self._log.meta(MessageRef.parse_member(member)) for member in members))
            live = [meta for meta in metas if meta is not None and not meta.terminal and meta.user == who.user]
            kept = {meta.ref.member for meta in live}
            await self.remove(who, *(member for member in members if member not in kept))
            found += live
        return found

    async def latest(self, who: Principal, chat_id: str) -> MessageRef | None:
        """Return the chat's latest message, running or over, None if it is not known (any more)."""
        latest = await self._log.latest(who.scope, chat_id)
        return None if latest is None else who.ref(chat_id, latest)
