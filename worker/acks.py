"""Owns the worker's record of acknowledgements: what Redis acknowledged to whom, one JSON line each.

It is for tests that kill Redis and workers.
Written with one `write` a line and no buffer, so that SIGKILL loses nothing of it. Off unless a file is named.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from shared.commands import Commands
from shared.ids import MessageRef
from shared.log.extender import Extender, Extension, Speak
from shared.log.log import Log
from shared.log.types import Claimed, Ending, Entry, NotClaimed, Ownership, Reply, Retention


class _NotingExtender(Extender):
    """An extender that has what went well noted."""

    def __init__(self, link: Commands, window_s: float, note: Callable[[Extension, float], None]) -> None:
        super().__init__(link, window_s)
        self._note = note

    def soon(self, speak: Speak, *, urgent: bool = False) -> None:
        super().soon(partial(self._noting, speak), urgent=urgent)

    def _noting(self, speak: Speak, now: float) -> Extension | None:
        said, sent = speak(now), time.time()
        if said is None:
            return None

        def landed(went_well: bool) -> None:
            if went_well:
                self._note(said, sent)
            said.landed(went_well)

        return msgspec.structs.replace(said, landed=landed)


class AckLog(Log):
    """A log that writes the replies to an owner's writes into a file."""

    def __init__(
        self, path: str, link: Commands, retention: Retention, *, gather_s: float = 0.0, **options: Any
    ) -> None:
        """Raise `OSError` if the file cannot be opened; the rest is `Log`'s."""
        super().__init__(link, retention, **options)
        self.extender = _NotingExtender(link, gather_s, self._note_extension)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def claim(self, ref: MessageRef, *, token: str, **options: Any) -> Claimed | NotClaimed:
        sent = time.time()
        claim = await super().claim(ref, token=token, **options)
        if isinstance(claim, Claimed):
            own = claim.ownership
            self._note("claim", own, sent, "ok", own.marker_seq, [options["marker"]])
        return claim

    async def append(self, own: Ownership, first: int, payloads: Sequence[bytes], **options: Any) -> Reply:
        sent = time.time()
        reply = await super().append(own, first, payloads, **options)
        acked = payloads[: reply.seq - first + 1] if reply.status == "ok" else ()
        if acked or reply.status != "ok":
            self._note("append", own, sent, reply.status, first, acked)
        return reply

    async def finish(self, own: Ownership, first: int, ending: Ending) -> Reply:
        sent = time.time()
        reply = await super().finish(own, first, ending)
        # A decided outcome may stand in place of ours: then the last entry is not the one that we sent.
        ours = reply.status == "ok" and reply.state == ending.state
        end = [ending.end] if ours and reply.seq == first + len(ending.before) else []
        self._note("finish", own, sent, reply.status, first, [*ending.before, *end] if reply.status == "ok" else [])
        return reply

    async def release(self, own: Ownership, *, refund: bool = True) -> Reply:
        sent = time.time()
        reply = await super().release(own, refund=refund)
        self._note("release", own, sent, reply.status, 0, ())
        return reply

    async def restore(self, own: Ownership, backup: Any, entries: Sequence[Entry], **options: Any) -> Reply:
        sent = time.time()
        reply = await super().restore(own, backup, entries, **options)
        raws = [entry.raw for entry in entries] if reply.status == "ok" else []
        self._note("restore", own, sent, reply.status, 1, raws)
        return reply

    def _note_extension(self, said: Extension, sent: float) -> None:
        self._note("extend", said.own, sent, "ok", said.last + 1, said.payloads)

    def _note(self, op: str, own: Ownership, sent: float, status: str, first: int, payloads: Sequence[bytes]) -> None:
        line = {
            "op": op,
            "message": own.ref.member,
            "epoch": own.epoch,
            "token": own.token,
            "sent": sent,
            "replied": time.time(),
            "status": status,
            "first": first,
            "sums": [zlib.crc32(payload) for payload in payloads],
        }
        os.write(self._file, msgspec.json.encode(line) + b"\n")
