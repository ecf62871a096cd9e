"""Owns a user's index of messages in flight: what `GET /active` lists and what the bound on them counts.

The index is written beside the log, not with it: whoever ends a message takes it out (`shared.ends`). So it may name
messages that are over, and after a crash in between may miss one. Whoever reads it looks at each message's own record
and takes the finished ones out. A message that is being started has no record yet: its place is kept in a set beside
the index, and is void by itself after the longest start.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal, cast

from gateway.access.principal import Principal
from shared.commands import Commands
from shared.ids import MessageRef
from shared.log.keys import starting_key, user_key
from shared.log.log import Log
from shared.log.types import Meta

AT_ONCE = 100
"""Records read at a time."""
MOST_LISTED = 1000
RECOUNT_S = 0.001
"""How long after a look at a user's records the next one waits, for each that was found in flight."""
MOST_REMEMBERED = 10_000

Place = Literal["taken", "held", "full"]
"""What came of asking for a place: it is ours to give back; the message has one already; there is none."""

# KEYS of both: 1 the index  2 what is being started, by when in server's seconds
# ARGV 1 member  2 most of both together  3 how long a start takes at most, s
_RESERVE = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
if redis.call('ZSCORE', KEYS[1], ARGV[1]) or redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 'held' end
if redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then return 'full' end
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3] * 1000)
return 'taken'
"""
# ARGV 1 member  2 the time after which a message is over, s
_ADD = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[1], 'NX', string.format('%.3f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 1000)
"""


@dataclass(slots=True)
class _Look:
    """The latest look at a user's records: whether it is under way, and when the next one may be taken."""

    under_way: asyncio.Lock = field(default_factory=asyncio.Lock)
    next_at: float = 0.0


class UserIndex:
    """The indexes of all users, in Redis."""

    def __init__(self, link: Commands, log: Log, *, keep_s: int, deadline_s: float = 5.0) -> None:
        """`keep_s`: the longest that a message can be in flight, and then some; `deadline_s`: of one operation."""
        self._link = link
        self._log = log
        self._keep_s = keep_s
        self._deadline_s = deadline_s
        self._start_s = int(deadline_s * 5) + 1
        self._looks: dict[str, _Look] = {}

    @staticmethod
    def _key(who: Principal) -> str:
        # Named by the scope alone, so that whoever ends a message can name it by its ref.
        return user_key(who.scope)

    @staticmethod
    def _keys(who: Principal) -> tuple[str, str]:
        return user_key(who.scope), starting_key(who.scope)

    async def reserve(self, who: Principal, ref: MessageRef, most: int) -> Place:
        """Take a place among `most` for a message that is about to be started, whoever else asks at this moment.

        `add` makes it the message's, `release` gives it back, and after the longest start it is void. If there seems
        to be none, the messages that are over are taken out first.
        """
        place = await self._reserve(who, ref, most)
        if place == "full":
            await self._tidy(who)
            place = await self._reserve(who, ref, most)
        return place

    async def _reserve(self, who: Principal, ref: MessageRef, most: int) -> Place:
        args = (ref.member, most, self._start_s)
        reply = await self._link.script(_RESERVE, self._keys(who), args, deadline_s=self._deadline_s)
        return cast(Place, reply.decode())

    async def release(self, who: Principal, ref: MessageRef) -> None:
        """Give back a place that was `taken` and not needed."""
        await self._link.call("ZREM", self._keys(who)[1], ref.member)

    async def add(self, who: Principal, ref: MessageRef) -> None:
        """Note a started message (again), by the server's clock: gateways need not agree on the time."""
        args = (ref.member, self._keep_s)
        await self._link.script(_ADD, self._keys(who), args, deadline_s=self._deadline_s)

    async def remove(self, who: Principal, *members: str) -> None:
        """Take messages out."""
        if members:
            await self._link.call("ZREM", self._key(who), *members)

    async def _tidy(self, who: Principal) -> None:
        """Take out what is over, or wait until somebody else who looks has done so.

        A look reads the record of everything in flight. The more it has found, the longer the next look has to wait: so
        a user at a high bound waits, and does not keep us busy. What is over is taken out, and costs one look only.
        """
        if len(self._looks) >= MOST_REMEMBERED:
            self._looks.clear()
        look, loop = self._looks.setdefault(who.scope, _Look()), asyncio.get_running_loop()
        async with look.under_way:
            if loop.time() >= look.next_at:
                look.next_at = loop.time() + RECOUNT_S * MOST_LISTED  # if it fails, once is enough
                look.next_at = loop.time() + RECOUNT_S * len(await self.in_flight(who))

    async def in_flight(self, who: Principal) -> list[Meta]:
        """Return the records of the user's messages in flight, oldest first, and take the others out.

        Up to `MOST_LISTED` of them, however many that are over stand before them.
        """
        found: list[Meta] = []
        while len(found) < MOST_LISTED:
            behind = min(len(found) + AT_ONCE, MOST_LISTED)
            raw = await self._link.call("ZRANGE", self._key(who), len(found), behind - 1)
            if not raw:
                break
            members = [member.decode() for member in raw]
            metas = await asyncio.gather(*(self._log.meta(MessageRef.parse_member(member)) for member in members))
            live = [meta for meta in metas if meta is not None and not meta.terminal and meta.user == who.user]
            kept = {meta.ref.member for meta in live}
            await self.remove(who, *(member for member in members if member not in kept))
            found += live
        return found
