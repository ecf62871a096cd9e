"""Owns the user feed: a short stream per user that tells their tabs and devices what starts and ends, so nobody polls.

It is told beside the log, not with it: a process that dies between the two leaves a line out, and a line may come
twice. So the feed says when to look, never how things stand; how they stand is read from the messages' own records
(`GET /active`). Whoever was away too long for its cursor to be kept is told `reset`, and looks at everything.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from shared.commands import Commands
from shared.errors import TailraceError
from shared.events import TerminalState, encode_json
from shared.ids import MessageRef, quote
from shared.jobs import GenerationRequest
from shared.link import ReplyError
from shared.log.keys import PREFIX

log = logging.getLogger(__name__)

MOST_KEPT = 500
"""Lines of one user, roughly; the oldest go first."""
LONGEST_TITLE = 200
PAGE = 200

# KEYS 1 the feed, whose entries are named by their time in ms   ARGV 1 line  2 most lines  3 how long each is kept, ms
#   4 how lines begin that are to be forgotten, or ''
_ADD = """
if ARGV[4] ~= '' then
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
    if string.sub(entry[2][2], 1, #ARGV[4]) == ARGV[4] then redis.call('XDEL', KEYS[1], entry[1]) end
  end
end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'd', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', KEYS[1], id)
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', string.match(id, '^%d+') - ARGV[3]))
return id
"""


class Started(Struct, frozen=True, tag="started", tag_field="type", omit_defaults=True):
    """A generation was created. `title` is the start's own `metadata.title`."""

    chat_id: str
    message_id: str
    at: int
    title: str | None = None


class Ended(Struct, frozen=True, tag="ended", tag_field="type", omit_defaults=True):
    """A generation is over. `needs_action`: it called tools whose outputs it waits for."""

    chat_id: str
    message_id: str
    at: int
    state: TerminalState
    needs_action: bool = False


class Deleted(Struct, frozen=True, tag="deleted", tag_field="type"):
    """A message's content was deleted."""

    chat_id: str
    message_id: str
    at: int


Line = Started | Ended | Deleted


class _Part(Struct):
    type: str
    state: str = ""


class _Final(Struct):
    """As much of a stored final message as tells whether somebody must act."""

    parts: list[_Part] = []


_final = msgspec.json.Decoder(_Final)


def feed_key(scope: str) -> str:
    """Return the key of a user's feed, which is also the name of its channel; `scope` is a ref's `tenant`."""
    return f"{PREFIX}:feed:{{{quote(scope)}}}"


class Feed:
    """The feeds of all users over one Redis. Safe to share between tasks; holds no state of its own."""

    def __init__(
        self, link: Commands, *, keep_s: int, deadline_s: float = 2.0, clock: Callable[[], float] = time.time
    ) -> None:
        """`keep_s`: how long a line is kept at most; `clock` tells Unix seconds, for people only."""
        self._link = link
        self._keep_ms = keep_s * 1000
        self._deadline_s = deadline_s
        self._clock = clock

    async def started(self, ref: MessageRef, request: GenerationRequest) -> None:
        """Tell that a generation was created."""
        title = request.metadata.get("title")
        title = title[:LONGEST_TITLE] if isinstance(title, str) else None
        await self._add(ref, Started(ref.chat_id, ref.message_id, int(self._clock()), title))

    async def ended(self, ref: MessageRef, state: TerminalState, final: bytes) -> None:
        """Tell that a generation is over; `final` is the stored final message."""
        await self._add(ref, Ended(ref.chat_id, ref.message_id, int(self._clock()), state, needs_action(final)))

    async def deleted(self, ref: MessageRef) -> None:
        """Tell that a message was deleted; its title is forgotten."""
        started = encode_json(Started(ref.chat_id, ref.message_id, 0)).removesuffix(b"0}")  # up to the time
        await self._add(ref, Deleted(ref.chat_id, ref.message_id, int(self._clock())), forget=started)

    async def _add(self, ref: MessageRef, line: Line, *, forget: bytes = b"") -> None:
        """Write a line, in place of those that begin with `forget` (nothing: of none).

        What is told has happened, so failing to tell it fails nothing.
        """
        args = (encode_json(line), MOST_KEPT, self._keep_ms, forget)
        try:
            await self._link.script(_ADD, (feed_key(ref.tenant),), args, deadline_s=self._deadline_s)
        except (TailraceError, ReplyError) as error:
            log.warning("feed line not written", extra={**ref.fields, "reason": str(error)})

    async def read(self, scope: str, after: str | None) -> list[tuple[str, bytes]] | None:
        """Return up to `PAGE` lines after the cursor, from the oldest if it is None.

        Returns None if the cursor is not in the feed (any more): lines between it and the oldest may be missing. (But
        not where the cursor's line alone was taken out, and older ones are there.) Raises `Unavailable`.
        """
        if after is None:
            return await self._range(scope, "-", PAGE)
        lines = await self._range(scope, after, PAGE + 1)
        if not lines or lines[0][0] == after:
            return lines[1:] if lines else None
        oldest = await self._range(scope, "-", 1)
        return lines[:PAGE] if oldest and _place(oldest[0][0]) < _place(after) else None

    async def _range(self, scope: str, start: str, most: int) -> list[tuple[str, bytes]]:
        rows: list[Any] = await self._link.call(
            "XRANGE", feed_key(scope), start, "+", "COUNT", most, deadline_s=self._deadline_s
        )
        return [(row[0].decode(), row[1][1]) for row in rows]


def _place(cursor: str) -> tuple[int, int]:
    time_ms, _, number = cursor.partition("-")
    return int(time_ms), int(number)


def needs_action(final: bytes) -> bool:
    """Whether a stored final message has called tools whose outputs it waits for."""
    try:
        return any(part.type == "tool" and part.state == "input-available" for part in _final.decode(final).parts)
    except (msgspec.DecodeError, RecursionError):
        return False
