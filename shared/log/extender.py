"""Owns extending the logs of all messages that a process writes: together, and at most once in a window.

A token by itself costs a wake-up of Redis, of the gateways and of ourselves again; what a few milliseconds bring costs
one. Who comes after a window without anybody does not wait, so that a slow stream is not slower for it.

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
from shared.log.keys import log_keys
from shared.log.scripts import script
from shared.log.types import Ownership

log = logging.getLogger(__name__)

MOST_TOGETHER = 32
"""Messages of one script, which nothing else gets in between of."""
MOST_BYTES = 65_536
"""Payload bytes after which a script takes no further message."""

Landed = Callable[[bool], None]
"""Told whether an extension went well; if not, or if nobody knows, `Log.append` of the same tells."""


class _Extension(Struct, frozen=True):
    own: Ownership
    last: int
    payloads: Sequence[bytes]
    deadline_s: float
    landed: Landed

    @property
    def size(self) -> int:
        return sum(map(len, self.payloads))


class Extender:
    """Extends logs over one `Commands`."""

    def __init__(self, link: Commands, window_s: float) -> None:
        """`window_s`: at most one round begins in it; 0: one a turn of the loop."""
        self._link = link
        self._window_s = window_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_round = float("-inf")
        self._round_due = False
        self._speakers: list[Callable[[], None]] = []
        self._extensions: list[_Extension] = []

    def soon(self, speak: Callable[[], None]) -> None:
        """Call `speak`, once, when the next round begins: it shall `extend`."""
        self._speakers.append(speak)
        self._have_a_round()

    def extend(
        self, own: Ownership, last: int, payloads: Sequence[bytes], *, deadline_s: float, landed: Landed
    ) -> None:
        """See `Log.extend`."""
        self._extensions.append(_Extension(own, last, payloads, deadline_s, landed))
        self._have_a_round()

    def _have_a_round(self) -> None:
        if self._round_due:
            return
        self._round_due = True
        loop = self._loop = self._loop or asyncio.get_running_loop()
        at = self._last_round + self._window_s
        if loop.time() < at:
            loop.call_at(at, self._round)
        else:
            loop.call_soon(self._round)  # not now: what this turn still brings goes with it

    def _round(self) -> None:
        assert self._loop is not None
        self._last_round = self._loop.time()
        speakers, self._speakers = self._speakers, []
        for speak in speakers:
            try:
                speak()
            except Exception:  # one message's bug must not cost the others their round
                log.exception("nothing said in this round")
        extensions, self._extensions = self._extensions, []
        self._round_due = False
        for group in _groups(extensions, MOST_TOGETHER if self._link.crosses_slots else 1):
            self._send(group)

    def _send(self, group: list[_Extension]) -> None:
        keys: list[str] = []
        args: list[Arg] = []
        for each in group:
            keys += log_keys(each.own.ref).hot
            args += (each.own.token, each.last, each.own.epoch, len(each.payloads), *each.payloads)
        deadline_s = min([each.deadline_s for each in group])  # who had longer sends again
        reply = self._link.at_once(script("extend"), tuple(keys), tuple(args), deadline_s=deadline_s)
        if reply is None:
            _tell(group, ())
        else:
            reply.add_done_callback(partial(_replied, group))


def _groups(extensions: list[_Extension], most: int) -> Iterator[list[_Extension]]:
    group: list[_Extension] = []
    size = 0
    for each in extensions:
        group.append(each)
        size += each.size
        if len(group) == most or size > MOST_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _replied(group: list[_Extension], reply: asyncio.Future[Any]) -> None:
    went_well = not reply.cancelled() and reply.exception() is None
    _tell(group, reply.result() if went_well else ())


def _tell(group: list[_Extension], replies: Sequence[bytes]) -> None:
    for index, each in enumerate(group):
        try:
            each.landed(bool(replies) and replies[index] == b"ok")
        except Exception:  # one message's bug must not cost the others their tokens
            log.exception("extension not taken note of", extra={"ref": each.own.ref.member})
