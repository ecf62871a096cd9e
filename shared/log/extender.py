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

from shared.commands import Commands
from shared.log.keys import log_keys
from shared.log.types import Ownership
from shared.pipeline import pack

log = logging.getLogger(__name__)

MOST_TOGETHER = 32
"""Messages in one transaction, during which Redis serves nobody else."""
MOST_BYTES = 65_536
"""Payload bytes after which a transaction takes no further message."""

Landed = Callable[[bool], None]
"""Told whether an extension went well; if not, or if nobody knows, `Log.append` of the same tells."""


class Extension(Struct, frozen=True):
    """What a message's owner has to say in a round: `payloads` (one at least) behind entry `last`."""

    own: Ownership
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
        packed: list[bytes] = []
        for each in group:
            packed += _commands(each)
        deadline_s = min([each.deadline_s for each in group])  # those with more time send again
        reply = self._link.exec_at_once(log_keys(group[0].own.ref).stream, packed, deadline_s=deadline_s)
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


def _commands(extension: Extension) -> list[bytes]:
    """Return what adds the entries and publishes them. Redis takes no id that is not above the last one: the fence."""
    own, last, payloads = extension.own, extension.last, extension.payloads
    stream = log_keys(own.ref).stream
    packed: list[bytes] = []
    for seq, payload in enumerate(payloads, last + 1):
        packed.append(pack(("XADD", stream, "NOMKSTREAM", b"%d-%d" % (own.epoch, seq), "d", payload)))
    said = b"%d-%d %d-%d\n%b" % (own.epoch, last, own.epoch, last + 1, b"\n".join(payloads))
    packed.append(pack(("PUBLISH", stream, said)))
    return packed


def _replied(group: list[Extension], reply: asyncio.Future[Any]) -> None:
    went_well = not reply.cancelled() and reply.exception() is None
    _tell(group, reply.result() if went_well else ())


def _tell(group: list[Extension], replies: Sequence[object]) -> None:
    at = 0
    for each in group:
        added = replies[at : at + len(each.payloads)]  # their ids; None or an error in place of one that was not
        at += len(each.payloads) + 1
        try:
            each.landed(_were_added(added))
        except Exception:  # one message's bug must not cost the others their tokens
            log.exception("extension callback failed", extra=each.own.ref.fields)


def _were_added(replies: Sequence[object]) -> bool:
    for each in replies:
        if type(each) is not bytes:
            return False
    return bool(replies)
