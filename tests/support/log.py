"""Owns the short forms in which the tests drive the log: a message, its owner, what they write, and lost time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from shared import events as ev
from shared.commands import Commands
from shared.cursor import Cursor
from shared.events import encode_event
from shared.fold import fold
from shared.ids import MessageRef
from shared.jobs import CANCEL_NAME, CANCELS
from shared.link import Link
from shared.log.extender import Extension
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.segments import Segment, make_segment
from shared.log.types import (
    Claimed,
    Created,
    Ending,
    Entry,
    Exists,
    Meta,
    NotClaimed,
    Ownership,
    Policy,
    Refused,
    Reply,
    new_token,
)
from shared.message import encode_message
from shared.redis import resolver
from tests.support.wait import wait_until

LEASE_MS = 60_000
REQUEST = b'{"model":"m","messages":[]}'
ODD = MessageRef("a{c", "}chat{💬}", "m}1")
"""With braces, by which a cluster tells the slot of a key."""


def first_entry(ref: MessageRef) -> bytes:
    """Return the payload of entry 1."""
    return encode_event(ev.Created(ref.chat_id, ref.message_id, "m", 1))


def text(value: str) -> bytes:
    """Return the payload of a piece of text."""
    return encode_event(ev.TextDelta("t", value))


def marker(n: int) -> bytes:
    """Return the payload of the `n`-th attempt's claim marker."""
    return encode_event(ev.Attempt(n, "first" if n == 1 else "worker_lost", "start" if n == 1 else "restart"))


def ending(state: Any = "done", *before: bytes) -> Ending:
    """Return what ends a message in `state`, entries of `before` included."""
    end = ev.End(state, attempts=1)
    return Ending(state, encode_message(fold([end])), encode_event(end), before)


async def create(
    log: Log, ref: MessageRef, *, body_hash: str = "h", policy: Policy = "single", **more: Any
) -> Created | Exists | Refused:
    """Create the message of `ref`; the reply whatever it is."""
    return await log.create(
        ref, user="ann", body_hash=body_hash, request=REQUEST, first=first_entry(ref), policy=policy, **more
    )


async def created(log: Log, ref: MessageRef, **how: Any) -> Cursor:
    """Create the message of `ref`, which must succeed; the cursor of its first entry."""
    reply = await create(log, ref, **how)
    assert isinstance(reply, Created), reply
    return reply.cursor


async def try_claim(
    log: Log,
    ref: MessageRef,
    *,
    token: str | None = None,
    seen: int = 0,
    most: int = 3,
    lease_ms: int = LEASE_MS,
    channel: str = "tr:worker:w",
) -> Claimed | NotClaimed:
    """Claim the message of `ref`; the reply whatever it is."""
    return await log.claim(
        ref,
        token=token or new_token(),
        lease_ms=lease_ms,
        most_attempts=most,
        attempts_seen=seen,
        marker=marker(seen + 1),
        channel=channel,
    )


async def claim(log: Log, ref: MessageRef, **how: Any) -> Ownership:
    """Claim the message of `ref`, which must succeed."""
    reply = await try_claim(log, ref, **how)
    assert isinstance(reply, Claimed), reply
    return reply.ownership


async def started(log: Log, ref: MessageRef, **how: Any) -> Ownership:
    """Create and claim the message of `ref`: entries 1 and 2."""
    await created(log, ref)
    return await claim(log, ref, **how)


async def append(log: Log, own: Ownership, first: int, *texts: str, lease_ms: int = LEASE_MS) -> Reply:
    """Append pieces of text as entries `first`, ...; none is a heartbeat."""
    payloads = [text(value) for value in texts]
    return await log.append(own, first, payloads, lease_ms=lease_ms, renew_ttl=False, deadline_s=5)


async def extend(log: Log, own: Ownership, last: int, *texts: str) -> bool:
    """Extend the log behind entry `last` by pieces of text; return whether that went well."""
    return await extend_by(log, own, last, [text(value) for value in texts])


async def extend_by(log: Log, own: Ownership, last: int, payloads: Sequence[bytes]) -> bool:
    """Extend the log behind entry `last`; return whether that went well."""
    went_well: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    said = Extension(own, last, payloads, 5, went_well.set_result)
    log.extender.soon(lambda _now: said)
    return await went_well


async def seen(log: Log, ref: MessageRef) -> Meta:
    """Return the message's record, which must exist."""
    meta = await log.meta(ref)
    assert meta is not None
    return meta


async def payloads(log: Log, ref: MessageRef) -> list[bytes]:
    """Return what the log says, without ids."""
    return [entry.raw for entry in await log.read_all(ref)]


async def run_out(link: Commands, ref: MessageRef) -> None:
    """Let the time pass that the owner's lease would take."""
    await link.call("HSET", log_keys(ref).meta, "lu", "1")


async def lasts(link: Commands, key: str, period_s: int) -> None:
    """Assert that Redis forgets `key` so long after now, or after a moment ago."""
    left = await link.call("PTTL", key)
    assert (period_s - 60) * 1000 < left <= period_s * 1000, (key, left)


async def lose_everything(link: Commands) -> None:
    """Do what a restart without persistence does."""
    await link.everywhere("FLUSHDB")


@asynccontextmanager
async def full(link: Link) -> AsyncIterator[None]:
    """Have the server refuse every command that needs memory."""
    _, before = await link.call("CONFIG", "GET", "maxmemory")
    await link.call("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        await link.call("CONFIG", "SET", "maxmemory", before)


@dataclass
class Failover:
    """What a replica had at one moment, and the promotion that makes it the truth."""

    link: Link
    dumps: dict[bytes, bytes] = field(default_factory=dict)

    async def replicate(self) -> None:
        """Take over everything there is now."""
        keys: list[bytes] = await self.link.call("KEYS", "*")
        self.dumps = {key: await self.link.call("DUMP", key) for key in keys}

    async def promote(self) -> None:
        """Lose whatever came after the last `replicate`."""
        await self.link.call("FLUSHDB")
        for key, dump in self.dumps.items():
            await self.link.call("RESTORE", key, 0, dump)

    async def fail_over(self) -> None:
        """Promote, and break every connection, as the loss of a server does."""
        await self.promote()
        await self.break_connections()

    async def break_connections(self) -> None:
        """Return once the link stands again."""
        before = self.link.stats.connects
        await self.link.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
        await wait_until(lambda: self.link.stats.connects > before and self.link.up, what="the link stands again")


class Listener:
    """Hears what is published on a channel."""

    def __init__(self, url: str, channel: str) -> None:
        self._heard: list[bytes] = []
        self._channel = channel
        self._link = Link(resolver(url), name="listener", on_push=self._on_push)

    async def __aenter__(self) -> Listener:
        await self._link.open(wait_s=5)
        self._link.post("SUBSCRIBE", self._channel)
        await self._link.call("PING")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._link.close()

    async def heard(self) -> list[bytes]:
        """Return everything that was published so far: it comes before the answer to a later question."""
        await self._link.call("PING")
        return self._heard

    def _on_push(self, push: list[Any]) -> None:
        if push[0] == b"message":
            self._heard.append(push[2])


def entry(epoch: int, seq: int, value: str) -> Entry:
    """Return an entry as an owner keeps it in memory."""
    return Entry(Cursor(epoch, seq), text(value))


async def cancel_jobs(link: Link) -> list[list[Any]]:
    """Return the arguments of the queued jobs that cancel a run upstream."""
    ids = await link.call("ZRANGE", CANCELS, 0, -1)
    jobs = [json.loads(await link.call("GET", b"arq:job:" + job_id)) for job_id in ids]
    return [job["a"] for job in jobs if job["f"] == CANCEL_NAME]


def segment_of(entries: Sequence[Entry], after: Cursor | None = None) -> Segment:
    """Return the segment of `entries`, which follow upon `after`."""
    return make_segment(after, entries[-1].cursor, (entry.raw for entry in entries))


def segments_of(entries: Sequence[Entry], *cuts: int) -> list[Segment]:
    """Return the segments of a log cut behind these seqs; what comes after the last cut is in none."""
    found: list[Segment] = []
    for begin, end in pairwise((0, *cuts)):
        found.append(segment_of(entries[begin:end], found[-1].last if found else None))
    return found


async def checkpoint(log: Log, own: Ownership, *cuts: int) -> None:
    """Store the segments of the log cut behind these seqs."""
    for number, segment in enumerate(segments_of(await log.read_all(own.ref), *cuts)):
        assert await log.checkpoint(own, number, segment) == Reply("ok", number + 1)


async def eventful(log: Log, link: Commands, ref: MessageRef) -> Ownership:
    """Lead the chat of `ref` through nearly every operation of the log; `link` leads to the same Redis.

    At the end a second message of the chat is stopped whose owner has lost its lease; returns that ownership.
    """
    second = replace(ref, message_id="{x}2")
    await create(log, ref)
    own = await claim(log, ref)
    await append(log, own, 3, "a")
    assert await extend(log, own, 3, "b")
    assert (await log.checkpoint(own, 0, segment_of(await log.read_all(ref)))).status == "ok"
    await log.append(own, 4, (), lease_ms=60_000, renew_ttl=True, deadline_s=5)
    await log.decide(own, ending("done"))
    await create(log, second, policy="replace")
    await log.release(own)
    await log.force(await seen(log, ref), ending("aborted"))
    await create(log, replace(ref, message_id="3"), policy="parallel")
    own = await claim(log, second)
    backup = await log.backup(second)
    assert backup is not None
    entries = await log.read_all(second)
    await lose_everything(link)
    assert (await log.restore(own, backup, entries, lease_ms=1000, channel="w")).status == "ok"
    await run_out(link, second)
    assert (await log.stop(second)).status == "ownerless"
    return own
