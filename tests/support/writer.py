"""Owns a worker's side of the log for tests of the reading side: real scripts on a real Redis, no generation."""

from __future__ import annotations

from shared.events import Attempt, Created, End, TextDelta, TextStart, encode_event
from shared.ids import MessageRef
from shared.log.log import Log
from shared.log.types import Backup, Claimed, Ending, Entry, NotClaimed, Ownership, new_token
from tests.support.wait import wait_until

LEASE_MS = 8000
END = End("done", attempts=1)


class LogWriter:
    """Creates one message and writes to it as its owner. Every method awaits the log's acknowledgement."""

    def __init__(self, log: Log, ref: MessageRef, *, lease_ms: int = LEASE_MS) -> None:
        self.log = log
        self.ref = ref
        self.seq = 0
        self._lease_ms = lease_ms
        self._own: Ownership | None = None

    @property
    def own(self) -> Ownership:
        """The claim; made by `claim`."""
        assert self._own is not None
        return self._own

    async def create(self) -> None:
        first = Created(self.ref.chat_id, self.ref.message_id, "scripted", 1_700_000_000)
        reply = await self.log.create(
            self.ref, user="u", body_hash="h", request=b"{}", first=encode_event(first), policy="parallel",
            most_parallel=100_000,
        )  # fmt: skip
        assert type(reply).__name__ == "Created", reply

    async def claim(self, attempts_seen: int = 0) -> None:
        marker = encode_event(Attempt(attempts_seen + 1, "first" if attempts_seen == 0 else "worker_lost", "start"))

        async def claimed() -> bool:
            reply = await self.log.claim(
                self.ref, token=new_token(), lease_ms=self._lease_ms, most_attempts=9, attempts_seen=attempts_seen,
                marker=marker, channel="tr:worker:test",
            )  # fmt: skip
            if isinstance(reply, NotClaimed) and reply.reason == "busy":
                return False  # an earlier owner's lease has some milliseconds left
            assert isinstance(reply, Claimed), reply
            self._own = reply.ownership
            self.seq = reply.ownership.marker_seq
            return True

        await wait_until(claimed, what="the lease of the earlier owner did not end")

    async def start(self) -> None:
        """Create, claim and open a text part."""
        await self.create()
        await self.claim()
        await self.append(encode_event(TextStart("t0")))

    async def append(self, *payloads: bytes) -> None:
        reply = await self.log.append(
            self.own, self.seq + 1, payloads, lease_ms=self._lease_ms, renew_ttl=False, deadline_s=5
        )
        assert reply.status == "ok", reply
        self.seq = reply.seq

    async def say(self, *words: str) -> None:
        """Append one text delta a word."""
        await self.append(*(encode_event(TextDelta("t0", word)) for word in words))

    async def heartbeat(self) -> None:
        await self.append()

    async def finish(self) -> None:
        reply = await self.log.finish(self.own, self.seq + 1, Ending("done", b"{}", encode_event(END)))
        assert reply.status == "ok", reply
        self.seq = reply.seq

    async def restore(self, entries: list[Entry]) -> None:
        """Write the message back after Redis lost it."""
        backup = Backup("u", "h", b"{}", 1_700_000_000_000, 4_000_000_000_000)
        reply = await self.log.restore(self.own, backup, entries, lease_ms=self._lease_ms, channel="tr:worker:test")
        assert reply.status == "ok", reply
