"""Owns the log's operations: each is one Lua script or one read, all idempotent, all with a deadline.

Every method raises `Unavailable` when Redis does not answer by the deadline and `StorageFull` when it is
out of memory; what a reply means for the caller stands in `shared.log.types`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast

from shared.commands import Arg, Commands
from shared.cursor import Cursor
from shared.errors import TailraceError, Unavailable
from shared.events import TerminalState
from shared.ids import MessageRef
from shared.link import ReplyError
from shared.log.appointments import Appointments
from shared.log.extender import Extender
from shared.log.keys import chat_keys, last_key, log_keys
from shared.log.replicas import ReplicaWait
from shared.log.replies import META_FIELDS, meta_of, reply_of
from shared.log.scripts import script
from shared.log.segments import Segment, chained
from shared.log.types import (
    Backup,
    Claimed,
    Created,
    Ending,
    Entry,
    Exists,
    Meta,
    MetaState,
    NotClaimed,
    Ownership,
    Policy,
    Refused,
    Reply,
    Retention,
    StopReply,
    random3,
)

log = logging.getLogger(__name__)

MOST_REFUNDS = 8
"""How often a message may be handed back before that costs it an attempt: more than any rolling restart takes."""
STOP_GRACE_MS = 300
"""How long after a stop a reaper checks that the owner has heard: under a second even with the reaper's pause."""
LOOK_WITHIN_S = 0.3
"""How long an appointment that is made beside something else may take: nobody waits for the index's node."""
PAGE = 1000
"""Entries a read asks for at a time."""

OnEnd = Callable[[MessageRef, TerminalState, bytes], Awaitable[None]]
"""Told of an end that this process has written: which message, how it ended, its stored final message."""


class Log(Appointments):
    """The log over one Redis, with the appointments that keep its messages alive. Safe to share."""

    def __init__(
        self,
        link: Commands,
        retention: Retention,
        *,
        deadline_s: float = 5.0,
        replicas: int = 0,
        on_end: OnEnd | None = None,
        gather_s: float = 0.0,
    ) -> None:
        """`replicas`: how many replicas CREATE, CLAIM, the end and DELETE wait for, as `ReplicaWait` does; 0: none.

        `gather_s`: logs are extended at most once in this time, all together.
        """
        super().__init__(link, deadline_s=deadline_s)
        self._retention = retention
        self._replicas = replicas
        self._on_end = on_end
        self._wait_replicas = ReplicaWait(link, replicas)
        self.extender = Extender(link, gather_s)
        """Appends what many owners have to say at once, and quicker than `append`, which says what came of it."""

    @property
    def waits_for_replicas(self) -> bool:
        """Whether outcomes are decided before anybody is told, and replicated by replicas that keep up."""
        return self._replicas > 0

    def standing(self, ref: MessageRef) -> object | None:
        """Return what stands for the connection on which an operation on the message would go now; see `Commands`."""
        return self._link.standing(log_keys(ref).stream)

    async def create(
        self,
        ref: MessageRef,
        *,
        user: str,
        body_hash: str,
        request: bytes,
        first: bytes,
        policy: Policy = "single",
        deadline_ms: int = 3_600_000,
        most_parallel: int = 8,
    ) -> Created | Exists | Refused:
        """Create the message with `first` as entry 1 and make it the chat's active one.

        The same `body_hash` again gives `Exists`. `replace` asks the message in flight to stop.
        """
        keys = log_keys(ref)
        seen = ""
        for _ in range(16):
            args: tuple[Arg, ...] = (
                ref.message_id, body_hash, seen, policy, self._retention.live_ms, random3(),
                request, user, first, deadline_ms, most_parallel, self._retention.retain_ms,
            )  # fmt: skip
            last = last_key(ref.tenant, ref.chat_id)
            reply = await self._script("create", (*keys.whole, self._meta_of(ref, seen), last), args)
            match reply:
                case [b"created", epoch]:
                    await self._replicate(ref)
                    return Created(Cursor(int(epoch), 1))
                case [b"exists", state, epoch, seq]:
                    return Exists(cast(MetaState, state.decode()), Cursor(int(epoch), int(seq)))
                case [b"retry", current]:
                    seen = current.decode()
                case [reason, *detail]:
                    return Refused(reason.decode(), detail[0].decode() if detail else "")
        raise Unavailable("the chat's active message keeps changing")

    async def claim(
        self,
        ref: MessageRef,
        *,
        token: str,
        lease_ms: int,
        most_attempts: int,
        attempts_seen: int,
        marker: bytes,
        channel: str,
    ) -> Claimed | NotClaimed:
        """Try to become the owner; `marker` is the `attempt` entry for attempt `attempts_seen + 1`.

        A reaper looks at the message when the lease ends: an owner may die before it has made any appointment itself.
        """
        args: tuple[Arg, ...] = (
            token, lease_ms, most_attempts, random3(), attempts_seen, marker, channel, self._retention.live_ms,
        )  # fmt: skip
        reply, _ = await asyncio.gather(
            self._script("claim", log_keys(ref).live_keys, args), self._look_in(ref, lease_ms)
        )
        match reply:
            case [b"ok", epoch, seq, attempt]:
                await self._replicate(ref)
                return Claimed(Ownership(ref, token, int(epoch), int(attempt), int(seq)))
            case [reason, *detail]:
                return NotClaimed(reason.decode(), detail[0].decode() if detail else "")
        raise AssertionError(reply)

    async def append(
        self,
        own: Ownership,
        first: int,
        payloads: Sequence[bytes],
        *,
        lease_ms: int,
        renew_ttl: bool,
        deadline_s: float,
    ) -> Reply:
        """Append `payloads` as entries `first`, `first + 1`, ... and renew the lease; none at all is a heartbeat."""
        keys = log_keys(own.ref)
        ttl = self._retention.live_ms if renew_ttl else 0
        args: tuple[Arg, ...] = (own.token, own.epoch, first, lease_ms, ttl, *payloads)
        reply = await self._script("append", keys.live_keys if renew_ttl else keys.hot, args, deadline_s)
        match reply:
            case [b"ok", seq, stop]:
                if renew_ttl:
                    await self._link.call("PEXPIRE", keys.segments, ttl, deadline_s=deadline_s)
                return Reply("ok", int(seq), stop.decode())
            case _:
                return reply_of(reply)

    async def checkpoint(self, own: Ownership, number: int, segment: Segment) -> Reply:
        """Store `segment` as number `number` (from 0) of the message's, in place of all that stand there and behind.

        `ok`: it is there. `gap`: `seq` segments are there and fewer than `number`, or the log does not reach so far.
        """
        args: tuple[Arg, ...] = (own.token, own.epoch, number, segment.last.seq, segment.encode())
        return reply_of(await self._script("checkpoint", log_keys(own.ref).with_segments, args))

    async def decide(self, own: Ownership, ending: Ending) -> Reply:
        """Fix the outcome, and have replicas that keep up get it, before anybody is told; the first decision stands."""
        args = (own.token, own.epoch, ending.state, ending.final, ending.end)
        reply = reply_of(await self._script("decide", log_keys(own.ref).record, args))
        await self._replicate(own.ref)
        return reply

    async def finish(self, own: Ownership, first: int, ending: Ending) -> Reply:
        """End the message: entries not yet acknowledged from `first`, then the end. `state` tells what was decided."""
        keep = self._retention
        args: tuple[Arg, ...] = (
            own.token, own.epoch, first, own.ref.message_id, ending.state, ending.final, ending.end,
            keep.replay_ms, keep.retain_ms, keep.tombstone_ms, *ending.before,
        )  # fmt: skip
        reply = reply_of(await self._script("finish", log_keys(own.ref).whole, args))
        await self._replicate(own.ref)
        await self._tell(own.ref, reply, ending)
        return reply

    async def force(self, seen: Meta, ending: Ending) -> Reply:
        """End a message that nobody owns, if it is still as `seen`; `moved` otherwise."""
        keep = self._retention
        args: tuple[Arg, ...] = (
            seen.ref.message_id, ending.state, seen.epoch, seen.attempts, seen.seq, random3(), ending.final,
            ending.end, keep.replay_ms, keep.retain_ms, keep.tombstone_ms, *ending.before,
        )  # fmt: skip
        reply = reply_of(await self._script("force", log_keys(seen.ref).whole, args))
        await self._replicate(seen.ref)
        await self._tell(seen.ref, reply, ending)
        return reply

    async def stop(self, ref: MessageRef, reason: str = "user") -> StopReply:
        """Write down the wish to stop and wake the owner; have a reaper see soon whether it still lives."""
        reply = await self._script("stop", log_keys(ref).record, (ref.message_id, reason))
        status = reply[0].decode()
        if status == "stopping":
            await self._look_in(ref, STOP_GRACE_MS)
        return StopReply(status, reply[1].decode() if status == "final" else "")

    async def delete(self, ref: MessageRef) -> bool:
        """Forget the content, running or not; return whether there was a message."""
        keep = self._retention
        reply = await self._script("delete", log_keys(ref).whole, (ref.message_id, keep.retain_ms, keep.tombstone_ms))
        await self._replicate(ref)
        return bool(reply[0] == b"ok")

    async def release(self, own: Ownership, *, refund: bool = True) -> Reply:
        """Hand the message back; with its attempt refunded if asked for, up to `MOST_REFUNDS` times a message."""
        args = (own.token, own.epoch, MOST_REFUNDS if refund else 0)
        return reply_of(await self._script("release", log_keys(own.ref).record, args))

    async def restore(
        self,
        own: Ownership,
        backup: Backup,
        entries: Sequence[Entry],
        *,
        lease_ms: int,
        channel: str,
        deadline_s: float | None = None,
    ) -> Reply:
        """Write a lost message back from its owner's memory: `entries` is the whole log, under its own ids.

        `deadline_s`: what is left of the owner's lease; nothing is sent after it.
        """
        end = asyncio.get_running_loop().time() + (self._deadline_s if deadline_s is None else deadline_s)
        keys = log_keys(own.ref)
        pairs: list[Arg] = [part for entry in entries for part in (str(entry.cursor), entry.raw)]
        seen = ""
        for _ in range(16):
            args: tuple[Arg, ...] = (
                own.ref.message_id, own.token, own.epoch, own.attempt, lease_ms, self._retention.live_ms, seen,
                backup.body_hash, backup.user, backup.request, backup.born, backup.deadline, channel,
                backup.policy, self._retention.retain_ms, *pairs,
            )  # fmt: skip
            left = end - asyncio.get_running_loop().time()
            last = last_key(own.ref.tenant, own.ref.chat_id)
            reply = await self._script("restore", (*keys.whole, self._meta_of(own.ref, seen), last), args, left)
            if reply[0] != b"retry":
                return reply_of(reply)
            seen = reply[1].decode()
        raise Unavailable("the chat's active message keeps changing")

    async def meta(self, ref: MessageRef) -> Meta | None:
        """Read the message's record; None where there is none."""
        clock, *values = await self._script("meta", log_keys(ref).hot, META_FIELDS)
        if values[0] is None:
            return None
        fields = {name: None if raw is None else raw.decode() for name, raw in zip(META_FIELDS, values, strict=True)}
        return meta_of(ref, fields, int(clock))

    async def backup(self, ref: MessageRef) -> Backup | None:
        """Read what RESTORE will need; None where there is no live record."""
        fields = ("user", "hash", "req", "born", "dl", "pol")
        values = await self._link.call("HMGET", log_keys(ref).meta, *fields, deadline_s=self._deadline_s)
        if values[2] is None:
            return None
        user, body_hash, request, born, deadline, policy = values
        return Backup(
            user.decode(), body_hash.decode(), request, int(born), int(deadline), cast(Policy, policy.decode())
        )

    async def final(self, ref: MessageRef) -> bytes | None:
        """Read the stored final message; None where there is none (yet, or any more)."""
        return cast("bytes | None", await self._link.call("HGET", log_keys(ref).meta, "final"))

    async def request(self, ref: MessageRef) -> bytes | None:
        """Read the stored request; None where there is none (any more)."""
        return cast("bytes | None", await self._link.call("HGET", log_keys(ref).meta, "req"))

    async def tell(self, ref: MessageRef) -> None:
        """Write down when somebody first got the end, if the message has ended; once or often."""
        await self._script("tell", log_keys(ref).record, ())

    async def tombstone(self, ref: MessageRef) -> str | None:
        """Return the user of a message that existed and is over, None where nothing is remembered."""
        raw = await self._link.call("GET", log_keys(ref).tomb)
        return None if raw is None else raw.decode()

    async def read(self, ref: MessageRef, start: Cursor | None, count: int = PAGE) -> list[Entry]:
        """Read up to `count` entries from `start` itself on; from the first entry if None.

        A reader that continues passes its own cursor: if the first entry that comes back is not that one,
        the log it was reading is no longer there and it must begin anew.
        """
        rows = await self._link.call(
            "XRANGE", log_keys(ref).stream, "-" if start is None else str(start), "+", "COUNT", count,
            deadline_s=self._deadline_s,
        )  # fmt: skip
        return [Entry.from_redis(row[0], row[1][1]) for row in rows]

    async def read_all(self, ref: MessageRef, start: Cursor | None = None) -> list[Entry]:
        """Read the whole log, or all from `start` itself on (nothing if that is not in it), page by page.

        What another log at the same place said is never mixed in.
        """
        entries: list[Entry] = []
        while True:
            last = entries[-1].cursor if entries else start
            page = await self.read(ref, last)
            if last is not None and (not page or page[0].cursor != last):
                if not entries:
                    return []
                entries = []  # a failover or a restore replaced what was read so far
                continue
            entries.extend(page[1:] if entries else page)
            if len(page) < PAGE:
                return entries

    async def was_taken_over(self, ref: MessageRef) -> bool:
        """Tell whether anything was written in a later epoch than the first claim's: else the log has no `reset`.

        The log's second entry, the first claim's marker, says so. The record cannot: a hand-over refunds the attempt,
        and a RESTORE forgets the hand-over.
        """
        meta, opening = await asyncio.gather(self.meta(ref), self.read(ref, None, 2))
        return meta is not None and len(opening) > 1 and opening[1].cursor.epoch != meta.epoch

    async def pages(self, ref: MessageRef) -> AsyncIterator[list[Entry]]:
        """Yield the whole log page by page, each entry once. Ends early if the log is replaced meanwhile."""
        page = await self.read(ref, None)
        yield page
        while len(page) == PAGE:
            last = page[-1].cursor
            page = await self.read(ref, last)
            if not page or page[0].cursor != last:
                return
            yield page[1:]

    async def segments(self, ref: MessageRef) -> list[Segment]:
        """Read the message's segments. Believe them only if the log has the entry at which the last one ends."""
        rows = await self._link.call("LRANGE", log_keys(ref).segments, 0, -1, deadline_s=self._deadline_s)
        return chained(rows)

    async def active(self, tenant: str, chat_id: str) -> str | None:
        """Return the chat's active message id."""
        raw = await self._link.call("GET", chat_keys(tenant, chat_id)[0])
        return None if raw is None else raw.decode()

    async def latest(self, tenant: str, chat_id: str) -> str | None:
        """Return the chat's latest message id, running or over, None if it is not known (any more)."""
        raw = await self._link.call("GET", last_key(tenant, chat_id))
        return None if raw is None else raw.decode()

    async def in_flight(self, tenant: str, chat_id: str) -> list[str]:
        """Return the chat's message ids in flight, oldest first."""
        return [raw.decode() for raw in await self._link.call("ZRANGE", chat_keys(tenant, chat_id)[1], 0, -1)]

    async def _look_in(self, ref: MessageRef, delay_ms: int) -> None:
        """Have a reaper look at the message `delay_ms` from now at the latest; an index that is away costs nothing."""
        try:
            await self._appoint((ref,), delay_ms, sooner_only=True, deadline_s=LOOK_WITHIN_S)
        except (TailraceError, ReplyError):  # what it is made beside is written down all the same
            log.info("appointment not made", extra=ref.fields)

    def _script(
        self, name: str, keys: tuple[str, ...], args: tuple[Arg, ...], deadline_s: float | None = None
    ) -> Coroutine[Any, Any, list[Any]]:
        deadline = self._deadline_s if deadline_s is None else deadline_s
        return self._link.script(script(name), keys, args, deadline_s=deadline)

    async def _tell(self, ref: MessageRef, reply: Reply, ending: Ending) -> None:
        if self._on_end is not None and reply.status == "ok" and reply.state != "deleted":
            # An earlier decision stands in the place of this ending, and its final message may be another.
            stored = ending.final if reply.state == ending.state else await self.final(ref)
            await self._on_end(ref, cast(TerminalState, reply.state), stored or ending.final)

    async def _replicate(self, ref: MessageRef) -> None:
        if self._replicas:
            await self._wait_replicas(log_keys(ref).meta)

    @staticmethod
    def _meta_of(ref: MessageRef, message_id: str) -> str:
        return log_keys(MessageRef(ref.tenant, ref.chat_id, message_id) if message_id else ref).meta
