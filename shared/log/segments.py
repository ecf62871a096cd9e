"""Owns segments: stretches of a log written once more with their deltas joined, so that a late reader folds little.

A thousand tokens are a thousand entries and one segment of one line. Segments are a cache beside the log: whoever loses
or disbelieves them reads the log. Their form and the rule by which they are believed stand in PROTOCOL.md. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shared.cursor import Cursor
from shared.errors import InvalidCursor
from shared.events import Event, decode_event
from shared.log.types import Entry

SEGMENT_ENTRIES = 1000
"""Entries of one segment. A reader then reads about one page of the log itself; the owner writes the text a second
time, with one command and two cursors for every thousand tokens."""
SEGMENT_BYTES = 262_144
"""Payload at which a segment is closed though it has fewer entries: as much as one append carries."""

_QUOTE = ord('"')  # a number is looked for in bytes six times as fast as bytes are (Python 3.11)
_STRING = rb'[^"\\]*(?:\\.[^"\\]*)*'
_DELTA = re.compile(
    rb'(\{"type":"(?:(?:text|reasoning)-delta","id":"%b","delta"|tool-input-delta","toolCallId":"%b","inputTextDelta")'
    rb':")(%b)"\}' % (_STRING, _STRING, _STRING)
)
"""A delta as our encoder writes it: everything before its text, and the text's inside. Other forms are not joined."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The events of the entries behind `after` up to `last`; `after` is None where they begin with entry 1."""

    after: Cursor | None
    last: Cursor
    lines: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the segment as it is stored: the two cursors, then one payload a line."""
        head = f"{'-' if self.after is None else self.after} {self.last}"
        return b"\n".join((head.encode(), *self.lines))

    def events(self) -> Iterator[Event]:
        """Yield the events; their fold is that of the entries."""
        return map(decode_event, self.lines)


def make_segment(after: Cursor | None, last: Cursor, payloads: Iterable[bytes]) -> Segment:
    """Return the segment of the entries behind `after` up to `last`, given their payloads."""
    return Segment(after, last, tuple(_joined(payloads)))


def decode_segment(row: bytes) -> Segment | None:
    """Read what `Segment.encode` wrote; None for anything else, such as a later release's form."""
    head, *lines = row.split(b"\n")
    after, _, last = head.decode("utf-8", "replace").partition(" ")
    try:
        return Segment(None if after == "-" else Cursor.parse(after), Cursor.parse(last), tuple(lines))
    except InvalidCursor:
        return None


def chained(rows: Iterable[bytes]) -> list[Segment]:
    """Return the segments that follow upon each other from entry 1 on; what comes behind a break is left out."""
    found: list[Segment] = []
    for row in rows:
        segment = decode_segment(row)
        if segment is None or segment.after != (found[-1].last if found else None):
            break
        found.append(segment)
    return found


def fitting(segments: Sequence[Segment], entries: Sequence[Entry]) -> list[Segment]:
    """Return those of the chained `segments` that end at one of `entries`, a whole log from entry 1 on."""
    found: list[Segment] = []
    for segment in segments:
        if segment.last.seq > len(entries) or entries[segment.last.seq - 1].cursor != segment.last:
            break
        found.append(segment)
    return found


def _joined(payloads: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the payloads, each run of deltas to one part as one; without decoding, a thousand in a quarter of a ms.

    JSON strings can be joined by joining their insides. Whatever is not a delta in our own form stays as it is.
    """
    begin, texts = b"", list[bytes]()
    for raw in payloads:
        text = raw[len(begin) : -2]
        if begin and raw.startswith(begin) and raw.endswith(b'"}') and _QUOTE not in text:
            texts.append(text)
            continue
        delta = _DELTA.fullmatch(raw)
        if delta is not None and delta[1] == begin:
            texts.append(delta[2])
            continue
        if begin:
            yield b'%b%b"}' % (begin, b"".join(texts))
        if delta is None:
            begin = b""
            yield raw
        else:
            begin, texts = delta[1], [delta[2]]
    if begin:
        yield b'%b%b"}' % (begin, b"".join(texts))
