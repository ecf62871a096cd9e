"""The request log: one entry per upstream call, from its arrival to its end, for tests, chaos checks and people.

Kept in memory up to a bound and, if a file is named, appended to it as JSON lines: one when a call arrives, one when it
ends, so that a call without a second line was open when the process died.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec

from deploy.scripted_model.settings import MAX_JOURNAL_ENTRIES

_HEADER_LIMIT = 200


class Entry(msgspec.Struct, kw_only=True):
    """One upstream call. Times come in pairs: wall clock for people, monotonic for subtraction."""

    id: int
    api: str  # chat, responses, responses.retrieve or responses.cancel
    received_at: float
    received_monotonic: float
    key: str = ""
    prompt_hash: str = ""
    call: int = 0  # the how-manieth call of this key, from 1
    model: str = ""
    stream: bool = False
    background: bool = False
    response_id: str = ""
    request_id: str | None = None  # header x-request-id
    message: str | None = None  # header x-tailrace-message
    attempt: str | None = None  # header x-tailrace-attempt
    prefill_chars: int = 0
    tokens_sent: int = 0
    ended_at: float | None = None
    ended_monotonic: float | None = None
    outcome: str | None = None  # done, client_gone, cancelled, server_stop, refused:<status> or fault:<name>

    @property
    def open(self) -> bool:
        """Whether the call still runs."""
        return self.outcome is None

    def as_json(self) -> dict[str, object]:
        """Return the entry for the wire, with its derived field."""
        return {**msgspec.structs.asdict(self), "open": self.open}


class Journal:
    """All entries, oldest first; the oldest ended ones are dropped beyond the bound."""

    def __init__(self, path: Path | None = None) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._last_id = 0
        # Line-buffered and written on the event loop: two short lines per call, none per token.
        self._file: IO[str] | None = path.open("a", encoding="utf-8", buffering=1) if path else None

    def begin(self, api: str, headers: Mapping[str, str]) -> Entry:
        """Record the arrival of a call; the caller fills in what it learns and must `end` the entry."""
        self._last_id += 1
        entry = Entry(
            id=self._last_id,
            api=api,
            received_at=time.time(),
            received_monotonic=time.monotonic(),
            request_id=_short(headers.get("x-request-id")),
            message=_short(headers.get("x-tailrace-message")),
            attempt=_short(headers.get("x-tailrace-attempt")),
        )
        self._entries[entry.id] = entry
        if len(self._entries) > MAX_JOURNAL_ENTRIES:
            self._entries.popitem(last=False)
        return entry

    def announce(self, entry: Entry) -> None:
        """Write the arrival line, once the entry is filled in."""
        self._append("received", entry)

    def end(self, entry: Entry, outcome: str) -> None:
        """Record how a call ended; the first outcome stays."""
        if entry.outcome is None:
            entry.ended_at, entry.ended_monotonic, entry.outcome = time.time(), time.monotonic(), outcome
            self._append("ended", entry)

    def since(self, entry_id: int) -> list[Entry]:
        """Return the entries after number `entry_id`, in their present state."""
        return [entry for number, entry in self._entries.items() if number > entry_id]

    @property
    def last_id(self) -> int:
        """The number of the latest entry."""
        return self._last_id

    def clear(self) -> None:
        """Forget all entries that have ended; numbers go on."""
        for number in [number for number, entry in self._entries.items() if not entry.open]:
            del self._entries[number]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, event: str, entry: Entry) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode({"event": event, **entry.as_json()}).decode() + "\n")


def _short(value: str | None) -> str | None:
    return value if value is None else value[:_HEADER_LIMIT]
