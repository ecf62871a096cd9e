"""Owns what is said over a WebSocket: JSON frames, many subscriptions on one socket, each with its own cursor.

The client: subscribe, resume, feed, unsubscribe, stop, ping. The server: ready, open, entries, done, error, stop,
ping, pong. `sub` names a subscription, as the client likes; entries come in the log's order, each with its cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from gateway.protocols.base import Wire
from shared.events import encode_json
from shared.log.types import Entry
from shared.message import Message

FRAME_BYTES = 64 * 1024
"""Entries that come together are sent together up to about this size; many clients refuse frames beyond a megabyte."""

COME_BACK, COME_BACK_LATER, FAILED = 1012, 1013, 1011
BAD_FRAME, WHO_ARE_YOU = 4400, 4401
"""Close codes. 44xx: do not come back as you are; the others: come back, and every cursor still counts."""

SubId = Annotated[str, Meta(min_length=1, max_length=64)]


class Subscribe(Struct, frozen=True, tag="subscribe", tag_field="type"):
    """Follow a message: behind `after`, from a snapshot, or from the beginning."""

    sub: SubId
    chat_id: str
    message_id: str
    after: str | None = None
    snapshot: bool = False


class Resume(Struct, frozen=True, tag="resume", tag_field="type"):
    """Follow a message behind `after`; the message's own id names the subscription unless `sub` does."""

    chat_id: str
    message_id: str
    after: str
    sub: SubId | None = None


class FollowFeed(Struct, frozen=True, tag="feed", tag_field="type"):
    """Follow the user's feed, behind `after` if given."""

    sub: SubId
    after: str | None = None


class Unsubscribe(Struct, frozen=True, tag="unsubscribe", tag_field="type"):
    """End a subscription; entries already on their way still come."""

    sub: SubId


class StopMessage(Struct, frozen=True, tag="stop", tag_field="type"):
    """Stop a message's generation. `sub`, if given, comes back in the answer."""

    chat_id: str
    message_id: str
    sub: SubId | None = None


class Ping(Struct, frozen=True, tag="ping", tag_field="type"):
    """Are you there?"""


ClientFrame = Subscribe | Resume | FollowFeed | Unsubscribe | StopMessage | Ping
_decoder: msgspec.json.Decoder[ClientFrame] = msgspec.json.Decoder(ClientFrame)


def decode_frame(text: str) -> ClientFrame:
    """Read a client's frame; raise `msgspec.DecodeError` (also for lone surrogates and endless nesting)."""
    try:
        return _decoder.decode(text.encode())
    except (UnicodeEncodeError, RecursionError):
        raise msgspec.DecodeError("not a frame") from None


class Ready(Struct, frozen=True, tag="ready", tag_field="type"):
    """The socket is open. Silence for longer than `heartbeat_s` does not happen while it is well."""

    heartbeat_s: float


class Opened(Struct, frozen=True, tag="open", tag_field="type"):
    """The subscription stands; entries follow."""

    sub: str


class Done(Struct, frozen=True, tag="done", tag_field="type"):
    """There is nothing more to deliver on the subscription."""

    sub: str


class Fault(Struct, frozen=True, tag="error", tag_field="type", omit_defaults=True):
    """The request or the subscription has failed. `retry`: the same again may succeed. `status`: its HTTP status."""

    code: str
    message: str
    status: int
    retry: bool
    sub: str | None = None


class Stopped(Struct, frozen=True, tag="stop", tag_field="type", omit_defaults=True):
    """How the message stands after a stop: `stopping`, or the state in which it ended."""

    chat_id: str
    message_id: str
    state: str
    sub: str | None = None


class Pong(Struct, frozen=True, tag="pong", tag_field="type"):
    """Answers `ping`."""


PING = encode_json(Ping())


def item(cursor: str | None, raw: bytes) -> bytes:
    """Return one entry as a line, to be gathered by `frames`; the line's end is no part of any payload."""
    return b'{"event":%b}\n' % raw if cursor is None else _frame(cursor.encode(), raw)


def _frame(entry_id: bytes, raw: bytes) -> bytes:
    return b'{"id":"%b","event":%b}\n' % (entry_id, raw)


def frames(sub: str, lines: bytes) -> Iterator[bytes]:
    """Yield the frames that carry `lines`, what `item` wrote, in order."""
    head = b'{"type":"entries","sub":%b,"entries":[' % encode_json(sub)
    start = 0
    while start < len(lines):
        end = lines.rfind(b"\n", start, start + FRAME_BYTES)
        if end < 0:  # one entry that is larger by itself
            end = lines.index(b"\n", start)
        yield head + lines[start:end].replace(b"\n", b",") + b"]}"
        start = end + 1


def _snapshot(message: Message, last: Entry) -> bytes:
    return item(str(last.cursor), encode_json({"type": "snapshot", "message": message}))


WEBSOCKET = Wire(
    name="websocket",
    frame=_frame,
    reset=item(None, b'{"type":"reset","keep_seq":0,"reason":"replay","replay":true}'),
    snapshot=_snapshot,
    breaks="often",
    # The socket has heartbeats of its own.
    ping=b"",
    stalled=b"",
)
