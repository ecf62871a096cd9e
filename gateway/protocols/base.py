"""Owns what a wire is: the contract every encoder keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from shared.log.types import Entry
from shared.message import Message


class Encoder(Protocol):
    """Turns a log, entry by entry from the first, into a wire's events.

    `encode` returns the whole wire events (SSE blocks) that this entry gives, possibly none. The n-th event
    of a log is the same bytes whenever and wherever it is made: that is what makes an ordinal a cursor.
    """

    def encode(self, entry: Entry) -> Sequence[bytes]: ...


class LastBlock(bytes):
    """An event after which its viewer's stream is over, although the log goes on.

    For wires that cannot take back what was said: whoever has it has been told that it is void. What follows is
    for viewers that begin behind it (`skip`).
    """


class Breaking(bytes):
    """An event before which the connection breaks, so that the client comes back and is given another beginning."""


Breaks = Literal["often", "in_drain", "last"]
"""When a healthy connection is broken: see `Wire.breaks`."""

Over = Literal["ended", "broken"]
"""How a viewer's stream is over: with a clean end, or with a broken connection."""


def until_last(blocks: Sequence[bytes]) -> tuple[Sequence[bytes], Over | None]:
    """Return the blocks up to the first `LastBlock` (it included) or `Breaking` (it not), and which one came."""
    for index, block in enumerate(blocks):
        if type(block) is bytes:
            continue  # nearly all of them are; two isinstance calls a block are not free
        if isinstance(block, Breaking):
            return blocks[:index], "broken"
        if isinstance(block, LastBlock):
            return blocks[: index + 1], "ended"
    return blocks, None


SSE_HEADERS: dict[str, str] = {
    "content-type": "text/event-stream; charset=utf-8",
    # no-transform keeps proxies from compressing (and so buffering) the stream; X-Accel-Buffering is nginx's switch
    "cache-control": "no-cache, no-store, no-transform",
    "x-accel-buffering": "no",
}


class Framing:
    """The encoder of a wire whose events are each an entry by itself."""

    __slots__ = ("_frame",)

    def __init__(self, frame: Callable[[bytes, bytes], bytes]) -> None:
        self._frame = frame

    def encode(self, entry: Entry) -> tuple[bytes]:
        return (self._frame(entry.id, entry.raw),)


@dataclass(frozen=True, slots=True)
class Wire:
    """A wire protocol.

    frame: makes an entry's one event from its id and payload alone (a stateless wire), so that a viewer may begin at
    any cursor and viewers share the encoding. make_encoder: on all other wires, makes an encoder that stands at
    entry 1; a viewer replays from there and skips by ordinal.
    reset: what tells a viewer that all it has is void and a replay from the start follows; None where the
    wire has no such word, and the connection must break instead.
    snapshot: the one event that stands for everything up to a cursor; None where the wire has none.
    prologue: what a connection begins with, given its own reconnect delay in ms; never a whole SSE block,
    because some clients choke on a block without data.
    breaks: `often` (`rotate_s`, and in a drain) only where clients come back by themselves and go on where they were;
    to others a break is an error that somebody sees, so they meet one only when their gateway leaves. `last`: not
    before the drain is over, for what has nothing to show for itself until its end.
    settles: its clients have no cursor to come back with, so that an end which one of them got is written down.
    """

    name: str
    make_encoder: Callable[[], Encoder] | None = None
    frame: Callable[[bytes, bytes], bytes] | None = None
    reset: bytes | None = None
    snapshot: Callable[[Message, Entry], bytes] | None = None
    prologue: Callable[[int], bytes] = lambda _: b""
    headers: Mapping[str, str] = field(default_factory=lambda: SSE_HEADERS)
    settles: bool = False
    breaks: Breaks = "in_drain"
    ping: bytes = b": ping\n"
    stalled: bytes = b": stalled\n"

    @property
    def stateless(self) -> bool:
        """Whether an entry's bytes depend on nothing before it."""
        return self.frame is not None

    def make(self) -> Encoder:
        """Return an encoder that stands at the log's beginning; a stateless one may be used anywhere."""
        if self.frame is not None:
            return Framing(self.frame)
        assert self.make_encoder is not None
        return self.make_encoder()
