"""Owns where a viewer of the AI SDK's wire begins: cursors, run ids, indexes, and what a `reset` made void.

Whoever has nothing gets the answer from its first chunk, without what a `reset` has made void. Whoever has a
cursor gets what follows it; one that is not in the log (any more), or lies before a `reset` that its wire cannot
say, is like none: the client sees `start` again and rebuilds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.access.principal import Principal
from gateway.protocols.base import Breaking, Wire
from gateway.protocols.ui_message_stream import UI_STEPS, answers_late
from shared.errors import Gone, InvalidCursor, InvalidId
from shared.ids import MessageRef, quote, unquote
from shared.log.log import Log

_CURSOR = re.compile(r"([A-Za-z0-9_=-]+):([0-9]{1,9}):([0-9]{1,16})", re.ASCII)
_RUN = re.compile(r"run\.([0-9]{1,9})\.([A-Za-z0-9_=-]+)\.([A-Za-z0-9_=-]+)", re.ASCII)
_RESET = b'{"type":"reset"'
CURSOR_PATTERN = f"^{_CURSOR.pattern}$"


@dataclass(frozen=True, slots=True)
class UiCursor:
    """The `id:` of a chunk: which message, which chunk, and the epoch of the entry that it is made from."""

    message_id: str
    number: int
    epoch: int

    @classmethod
    def parse(cls, text: str) -> UiCursor:
        """Read the text form; raise `InvalidCursor`."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise InvalidCursor("a cursor of this stream is <message>:<number>:<epoch>")
        try:
            return cls(unquote(match[1]), int(match[2]), int(match[3]))
        except InvalidId:
            raise InvalidCursor("a cursor of this stream names its message") from None


def run_id(ref: MessageRef, base: int) -> str:
    """Return the name by which a client that counts chunks finds this message again; it counts from `base`."""
    return f"run.{base}.{quote(ref.chat_id)}.{quote(ref.message_id)}"


def parse_run_id(who: Principal, text: str) -> tuple[MessageRef, int] | None:
    """Return what `run_id` was made of, None for any other text."""
    match = _RUN.fullmatch(text)
    if match is None:
        return None
    try:
        return who.ref(unquote(match[2]), unquote(match[3])), int(match[1])
    except InvalidId:
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """Where to begin, as `LogStream` takes it. over: there is nothing more. count: chunks so far, where counted."""

    wire: Wire
    skip: int = 0
    over: bool = False
    count: int = 0


@dataclass(slots=True)
class _Survey:
    """What a walk over a log found: how many chunks, the last `reset`, the last chunk where the connection breaks.

    epoch: that of the entry which the chunk asked for is made from; None if there is no such chunk.
    """

    count: int = 0
    void_until: int = 0
    barrier: int = -1
    ended: bool = False
    epoch: int | None = None


async def from_start(log: Log, ref: MessageRef, wire: Wire, *, skip: int = 0) -> Place:
    """Return the place of a viewer that has nothing, or only the first `skip` chunks of the first entry."""
    if not await log.was_taken_over(ref):
        return Place(wire, skip)
    void_until = 0
    async for page in log.pages(ref):
        for entry in page:
            if entry.raw.startswith(_RESET):
                void_until = entry.cursor.seq
    return Place(answers_late(wire, void_until, fill=False) if void_until else wire, skip)


async def behind(log: Log, ref: MessageRef, wire: Wire, cursor: UiCursor) -> Place:
    """Return the place of a viewer that has everything up to `cursor`."""
    found = await _survey(log, ref, wire, cursor.number)
    if found.epoch != cursor.epoch or cursor.number < found.barrier:
        return await from_start(log, ref, wire)
    return Place(wire, cursor.number + 1, over=found.ended and cursor.number + 1 >= found.count)


async def at_index(log: Log, ref: MessageRef, index: int, base: int) -> Place:
    """Return the place of a viewer that counts chunks from `base` and has `index` (negative: wants the last so many).

    Raises `Gone` if what it has is void and nothing in its stream could say so.
    """
    found = await _survey(log, ref, UI_STEPS)
    skip = base + index if index >= 0 else max(base, found.count + index)
    if skip == base and found.void_until:
        return Place(answers_late(UI_STEPS, found.void_until, fill=True), skip, count=found.count)
    if skip <= found.barrier:
        raise Gone("this answer began anew; ask for it from its start")
    return Place(UI_STEPS, skip, over=found.ended and skip >= found.count, count=found.count)


async def _survey(log: Log, ref: MessageRef, wire: Wire, number: int = -1) -> _Survey:
    """Walk over the whole log; note the epoch of chunk `number`. (If the log changes meanwhile, its viewer sees.)"""
    found, encoder = _Survey(), wire.make()
    async for page in log.pages(ref):
        for entry in page:
            blocks = encoder.encode(entry)
            if found.count <= number < found.count + len(blocks):
                found.epoch = entry.cursor.epoch
            if entry.raw.startswith(_RESET):
                found.void_until = entry.cursor.seq
                if blocks and isinstance(blocks[-1], Breaking):
                    found.barrier = found.count + len(blocks) - 1
            found.count += len(blocks)
            found.ended = entry.is_end
    return found
