"""Owns extending the logs of all messages that a process writes: together, and at most once in a window.

A token by itself costs a wake-up of Redis, of the gateways and of ourselves again; what a few milliseconds bring costs
one. Whatever comes after a quiet window is sent at once, so a slow stream is not delayed.

No tasks; at most one timer or callback. Bounded: each message has one extension under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from shared.commands import Arg, Commands
from shared.log.scripts import script
from shared.log.types import Ownership

log = logging.getLogger(__name__)

MOST_TOGETHER = 32
"""Messages in one script, during which Redis serves nobody else."""
MOST_BYTES = 65_536
"""Payload bytes after which a script takes no further message."""

Landed = Callable[[bool], None]
"""Told whether an extension went well; if not, or if nobody knows, `Log.append` of the same tells."""


class Extension(Struct, frozen=True):
    """What a message's owner has to say in a round: `payloads` (one at least) behind entry `last`."""

    own: Ownership
    keys: tuple[str, ...]
    last: int
    payloads: Sequence[bytes]
    deadline_s: float
    landed: Landed


Speak = Callable[[float], Extension | None]
"""Called once, with the loop's time, when a round begins: returns what to write in it, if anything still is."""


class Extender:
    """Extends logs over one `Commands`."""

    def __init__(self, link: Commands, window_s: float) -> None:
        """`window_s`: at most one round begins in it; 0: one a turn of the loop."""
        self._link = link
        self._window_s = window_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_round = float("-inf")
        self._next_round: asyncio.Handle | None = None
        self._waits = False
        """Whether the next round waits for the window to end."""
        self._speakers: list[Speak] = []

    def soon(self, speak: Speak, *, urgent: bool = False) -> None:
        """Have `speak` called, once, in the next round, which does not wait for the window's end if this is `urgent`.

        Its entries are appended if the one before them is the last one, and nothing else is done: no coroutine, no
        second try, no renewed lease. `landed` is told, once and later, whether it went well; unless it did,
        `Log.append` the same, which does no harm.
        """
        self._speakers.append(speak)
        if self._next_round is None or (urgent and self._waits):
            self._have_a_round(urgent)

    def _have_a_round(self, urgent: bool) -> None:
        if self._next_round is not None:
            self._next_round.cancel()
        loop = self._loop = self._loop or asyncio.get_running_loop()
        at = self._last_round + self._window_s
        self._waits = not urgent and loop.time() < at
        if self._waits:
            self._next_round = loop.call_at(at, self._round)
        else:
            self._next_round = loop.call_soon(self._round)  # not now: what this turn still brings goes with it

    def _round(self) -> None:
        assert self._loop is not None
        now = self._last_round = self._loop.time()
        speakers, self._speakers = self._speakers, []
        self._next_round = None
        extensions: list[Extension] = []
        for speak in speakers:
            try:
                said = speak(now)
            except Exception:  # one message's bug must not cost the others their round
                log.exception("extension failed to build")
                continue
            if said is not None:
                extensions.append(said)
        for group in _groups(extensions, MOST_TOGETHER if self._link.crosses_slots else 1):
            self._send(group)

    def _send(self, group: list[Extension]) -> None:
        keys: list[str] = []
        args: list[Arg] = []
        for each in group:
            keys += each.keys
            own = each.own
            args += (own.token, each.last, own.epoch, len(each.payloads), *each.payloads)
        deadline_s = min([each.deadline_s for each in group])  # those with more time send again
        reply = self._link.at_once(script("extend"), tuple(keys), tuple(args), deadline_s=deadline_s)
        if reply is None:
            _tell(group, ())
        else:
            reply.add_done_callback(partial(_replied, group))


def _groups(extensions: list[Extension], most: int) -> Iterator[list[Extension]]:
    group: list[Extension] = []
    size = 0
    for each in extensions:
        group.append(each)
        for payload in each.payloads:
            size += len(payload)
        if len(group) == most or size > MOST_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _replied(group: list[Extension], reply: asyncio.Future[Any]) -> None:
    went_well = not reply.cancelled() and reply.exception() is None
    _tell(group, reply.result() if went_well else ())


def _tell(group: list[Extension], replies: Sequence[bytes]) -> None:
    for index, each in enumerate(group):
        try:
            each.landed(bool(replies) and replies[index] == b"ok")
        except Exception:  # one message's bug must not cost the others their tokens
            log.exception("extension callback failed", extra=each.own.ref.fields)
