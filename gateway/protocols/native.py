"""Owns the native wire: one log entry is one SSE event, its `id:` is the entry's cursor, its data the entry."""

from __future__ import annotations

from gateway.protocols.base import Wire
from shared.events import encode_json
from shared.log.types import Entry
from shared.message import Message


def frame(entry_id: bytes, raw: bytes) -> bytes:
    """Return the SSE event of one entry."""
    return b"id: %b\ndata: %b\n\n" % (entry_id, raw)


def snapshot(message: Message, last: Entry) -> bytes:
    """Return the event that holds the folded message so far; its id is the last folded entry's."""
    body = encode_json({"type": "snapshot", "message": message})
    return frame(last.cursor.id, body)


NATIVE = Wire(
    name="native",
    frame=frame,
    # Without an id of its own: the replay that follows brings the ids.
    reset=b'data: {"type":"reset","keep_seq":0,"reason":"replay","replay":true}\n\n',
    snapshot=snapshot,
    prologue=lambda retry_ms: b"retry: %d\n" % retry_ms,
    breaks="often",
)
