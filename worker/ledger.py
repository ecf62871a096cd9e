"""Owns a message's entries in the worker's memory: what was written before, what we wrote, what still waits.

The log in Redis can lose its tail; this can write it again. An entry gets its seq when it is encoded and keeps seq and
bytes for ever after, sent or not; so does a segment of entries, once it is cut. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from shared import events as ev
from shared.cursor import Cursor
from shared.fold import Delta, part_and_text
from shared.log.segments import SEGMENT_BYTES, SEGMENT_ENTRIES, Segment, make_segment
from shared.log.types import Entry

_ENTRY_OVERHEAD = 256
_RESET = b'{"type":"reset"'
_LONGEST_ESCAPE = 6
"""Bytes that one character may take in JSON, as in \\u0000."""


class OutputLimit(Exception):
    """Raised when a message has reached its limit on bytes or entries."""


class _Run:
    """Deltas to one part that wait together and will become one entry."""

    __slots__ = ("kind", "part", "texts")

    def __init__(self, first: Delta) -> None:
        self.kind = type(first)
        self.part, text = part_and_text(first)
        self.texts = [text]


class Ledger:
    """All entries of one message, in three stretches: before our claim, ours (from the marker on), not yet encoded."""

    def __init__(
        self,
        prior: Sequence[Entry],
        epoch: int,
        marker: bytes,
        *,
        max_entry: int,
        max_bytes: int,
        max_entries: int,
        segments: Sequence[Segment] = (),
    ) -> None:
        """`prior` is the whole log before our marker entry, `segments` what earlier owners have cut of it.

        `max_bytes` and `max_entries` bound what counts: the entries behind the last `reset`. What it made void has had
        its turn, or a long answer could not be begun anew.
        """
        self._prior = prior
        self._epoch = epoch
        self._own = [marker]
        self._marker_seq = len(prior) + 1
        self._waiting: list[Delta | _Run | bytes] = []
        """A delta becomes a run when another joins it."""
        self._longest_delta = max((max_entry - _ENTRY_OVERHEAD) // _LONGEST_ESCAPE, 1)
        self._limits = (max_bytes, max_entries)
        void = next((n for n in range(len(prior), 0, -1) if prior[n - 1].raw.startswith(_RESET)), 0)
        self._void_entries = void
        self._void_bytes = sum(len(entry.raw) for entry in prior[:void])
        self._encoded_bytes = sum(len(entry.raw) for entry in prior) + len(marker)
        self.waiting_bytes = 0
        self._bound()
        self.segments = list(segments)
        self._cut_seq = self.segments[-1].last.seq if self.segments else 0
        self._cut_bytes = sum(len(entry.raw) for entry in prior[: self._cut_seq])

    @property
    def last_seq(self) -> int:
        """The seq of the last encoded entry."""
        return self._marker_seq + len(self._own) - 1

    @property
    def marker_seq(self) -> int:
        return self._marker_seq

    def _bound(self) -> None:
        """Set where the message is full, in bytes and entries of the whole log."""
        most_bytes, most_entries = self._limits
        self._max_bytes = self._void_bytes + most_bytes
        self._max_entries = self._void_entries + most_entries

    def goes_beyond(self, seq: int) -> bool:
        """Tell whether there is anything behind the entry `seq`, encoded or not."""
        return bool(self._waiting) or seq < self._marker_seq + len(self._own) - 1

    def check_room(self, event: ev.Event) -> None:
        """Raise `OutputLimit` if the message may not grow by `event`. Ask before the grammar sees it.

        Raise `TypeError` for what is no event that can be read, has no JSON form, or too deep a one. An event that is
        not a delta is encoded an extra time for this: there are few of them, and one may be as large as an agent likes.
        """
        size = _size(_checked_text(event)) if isinstance(event, Delta) else len(_encode_checked(event))
        if (
            self._encoded_bytes + self.waiting_bytes + size > self._max_bytes
            or self._marker_seq + len(self._own) + len(self._waiting) > self._max_entries
        ):
            raise OutputLimit

    def say(self, delta: ev.Spoken) -> None:
        """Take a piece of text, or raise `OutputLimit`: `check_room` and `put` in one, for nearly all there is."""
        text, waiting = delta.delta, self._waiting
        size = len(text) if text.isascii() else _size(text)
        if (
            self._encoded_bytes + self.waiting_bytes + size > self._max_bytes
            or self._marker_seq + len(self._own) + len(waiting) > self._max_entries
        ):
            raise OutputLimit
        if not (waiting and self._join(delta)):
            waiting.append(delta)
        self.waiting_bytes += size

    def put(self, event: ev.Event) -> None:
        """Take an event; deltas of a run become one entry. Raise `TypeError` for what has no JSON form."""
        if isinstance(event, Delta):
            if not (self._waiting and self._join(event)):
                self._waiting.append(event)
            self.waiting_bytes += _size(_text(event))
        else:
            payload = encode(event)
            self._waiting.append(payload)
            self.waiting_bytes += len(payload)
            if isinstance(event, ev.Reset):
                self._void_entries = self._marker_seq + len(self._own) + len(self._waiting) - 1
                self._void_bytes = self._encoded_bytes + self.waiting_bytes
                self._bound()

    def _join(self, event: Delta) -> bool:
        """Join a delta to what waits last, if that is to the same part; return whether it was."""
        last = self._waiting[-1]
        if isinstance(last, bytes):
            return False
        part, text = part_and_text(event)
        run = last if isinstance(last, _Run) else _Run(last)
        if run.kind is not type(event) or run.part != part:
            return False
        run.texts.append(text)
        self._waiting[-1] = run
        return True

    def encode(self) -> None:
        """Give everything that waits its seq and bytes."""
        waiting, self._waiting = self._waiting, []
        self.waiting_bytes = 0
        for item in waiting:
            if isinstance(item, bytes):
                self._add(item)
            elif isinstance(item, Delta) and len(_text(item)) <= self._longest_delta:
                self._add(encode(item))
            else:
                for piece in self._pieces(item if isinstance(item, _Run) else _Run(item)):
                    self._add(piece)

    def _add(self, raw: bytes) -> None:
        self._own.append(raw)
        self._encoded_bytes += len(raw)

    def next_batch(self, acked: int, most_bytes: int) -> list[bytes]:
        """Return what to send behind `acked`: `encode` and `unsent` in one, quickly where one piece of text waits."""
        waiting, own = self._waiting, self._own
        if len(waiting) == 1 and acked == self._marker_seq + len(own) - 1:
            said = waiting[0]
            if isinstance(said, ev.Spoken) and len(said.delta) <= self._longest_delta:
                try:
                    raw = ev.encode_json(said)
                except UnicodeEncodeError:
                    raw = encode(said)
                waiting.clear()
                self.waiting_bytes = 0
                own.append(raw)
                self._encoded_bytes += len(raw)
                return [raw]
        self.encode()
        return self.unsent(acked, most_bytes)

    def unsent(self, acked: int, most_bytes: int | None) -> list[bytes]:
        """Return encoded entries after `acked`, up to `most_bytes` (but one at least); all if None."""
        start = acked - self._marker_seq + 1
        if most_bytes is None:
            return self._own[start:]
        end, size = start, 0
        while end < len(self._own) and (end == start or size + len(self._own[end]) <= most_bytes):
            size += len(self._own[end])
            end += 1
        return self._own[start:end]

    def entries(self) -> list[Entry]:
        """Return the whole log as it should be, for RESTORE."""
        own = (Entry(Cursor(self._epoch, self._marker_seq + i), raw) for i, raw in enumerate(self._own))
        return [*self._prior, *own]

    def events(self) -> Iterator[ev.Event]:
        """Yield the events of the log as it should be, decoded; what is cut with its deltas joined."""
        for segment in self.segments:
            yield from segment.events()
        for raw in self._raws(self._cut_seq):
            yield ev.decode_event(raw)

    def due(self, acked: int) -> bool:
        """Tell whether the entries up to `acked` may be enough for another segment; cheap."""
        return acked - self._cut_seq >= SEGMENT_ENTRIES or self._encoded_bytes - self._cut_bytes >= SEGMENT_BYTES

    def cut(self, acked: int) -> None:
        """Make segments of the entries up to `acked` that are in none yet, as far as they are enough for whole ones."""
        raws: list[bytes] = []
        size = 0
        for raw in islice(self._raws(self._cut_seq), acked - self._cut_seq):
            raws.append(raw)
            size += len(raw)
            if len(raws) == SEGMENT_ENTRIES or size >= SEGMENT_BYTES:
                after = self.segments[-1].last if self.segments else None
                self._cut_seq += len(raws)
                self._cut_bytes += size
                self.segments.append(make_segment(after, self._cursor(self._cut_seq), raws))
                raws, size = [], 0

    def _raws(self, behind: int) -> Iterator[bytes]:
        """Yield the payloads of the entries behind the seq `behind`."""
        yield from (entry.raw for entry in islice(self._prior, behind, None))
        yield from islice(self._own, max(behind - len(self._prior), 0), None)

    def _cursor(self, seq: int) -> Cursor:
        return self._prior[seq - 1].cursor if seq < self._marker_seq else Cursor(self._epoch, seq)

    def _pieces(self, run: _Run) -> Iterator[bytes]:
        text = run.texts[0] if len(run.texts) == 1 else "".join(run.texts)
        for start in range(0, len(text), self._longest_delta):
            yield encode(run.kind(run.part, text[start : start + self._longest_delta]))


def encode(event: ev.Event) -> bytes:
    """Encode an event; half a surrogate pair, which is no text, becomes U+FFFD."""
    try:
        return ev.encode_event(event)
    except UnicodeEncodeError:
        return ev.encode_event(_scrubbed(event))


def _encode_checked(event: ev.Event) -> bytes:
    if not isinstance(event, ev.Event):
        raise TypeError(f"an answer is made of events, and {type(event).__name__} is none")
    try:
        raw = encode(event)
    except RecursionError:
        raw = b""
    if not raw or ev.too_deep(raw):
        raise TypeError(f"an event may be nested {ev.DEEPEST} levels deep")
    # An agent may have given it values of any type; then it would be of an unknown kind to whoever reads it.
    names: tuple[object, ...] = ()
    if isinstance(event, ev.Data):
        names = (event.name,) if event.id is None else (event.name, event.id)
    if not all(isinstance(name, str) for name in names) or type(ev.decode_event(raw)) is not type(event):
        raise TypeError(f"a field of {type(event).__name__} is not of its type")
    return raw


def _checked_text(delta: Delta) -> str:
    given: tuple[object, ...] = part_and_text(delta)
    if not all(isinstance(value, str) for value in given):
        raise TypeError(f"a field of {type(delta).__name__} is not of its type")
    return _text(delta)


def _scrubbed(event: ev.Event) -> ev.Event:
    def scrub(value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if isinstance(value, dict):
            return {scrub(key): scrub(item) for key, item in value.items()}
        return [scrub(item) for item in value] if isinstance(value, list | tuple) else value

    return type(event)(**{key: scrub(value) for key, value in msgspec.structs.asdict(event).items()})


def _text(delta: Delta) -> str:
    return delta.input_text_delta if isinstance(delta, ev.ToolInputDelta) else delta.delta


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
