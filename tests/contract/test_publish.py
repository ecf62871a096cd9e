"""What is published: every batch names the id before it, every heartbeat the whole last id, in the log's own order."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.cursor import Cursor
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Entry
from tests.support.log import Listener, append, claim, create, ending, marker, run_out, seen, started, text


@pytest.fixture
async def viewer(redis_url: str, ref: MessageRef) -> AsyncIterator[Listener]:
    """A subscription to the message's channel."""
    async with Listener(redis_url, log_keys(ref).stream) as listener:
        yield listener


def parse(batch: bytes) -> tuple[Cursor, list[Entry]]:
    """Read a published batch as PROTOCOL.md defines it: the cursor before it, then its entries."""
    head, _, body = batch.partition(b"\n")
    prev, first = map(Cursor.from_redis, head.split(b" "))
    entries = [Entry(Cursor(first.epoch, first.seq + n), raw) for n, raw in enumerate(body.split(b"\n"))]
    return prev, entries


async def test_a_create_publishes_nothing(log: Log, ref: MessageRef, viewer: Listener) -> None:
    await create(log, ref)
    assert await viewer.heard() == []


async def test_batches_chain_from_the_first_entry_to_the_end(
    log: Log, ref: MessageRef, viewer: Listener, link: Link
) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a")
    await append(log, own, 4, "b", "c")
    await run_out(link, ref)
    own = await claim(log, ref, seen=1)
    await append(log, own, 7, "d")
    await log.finish(own, 8, ending("done", text("e")))
    entries = await log.read_all(ref)
    batches = [parse(batch) for batch in await viewer.heard()]
    assert [len(batch) for _, batch in batches] == [1, 1, 2, 1, 1, 2]
    cursor = entries[0].cursor
    for prev, batch in batches:
        assert prev == cursor
        cursor = batch[-1].cursor
    assert [entry for _, batch in batches for entry in batch] == entries[1:]


async def test_the_exact_bytes(log: Log, ref: MessageRef, viewer: Listener) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b")
    first, claimed = [entry.cursor for entry in await log.read_all(ref)][:2]
    assert await viewer.heard() == [
        b"%s %d-2\n%s" % (str(first).encode(), own.epoch, marker(1)),
        b"%s %d-3\n%s\n%s" % (str(claimed).encode(), own.epoch, text("a"), text("b")),
    ]


async def test_only_what_is_new_is_published(log: Log, ref: MessageRef, viewer: Listener) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b")
    await append(log, own, 3, "a", "b", "c")
    assert [entry.raw for _, batch in map(parse, await viewer.heard()) for entry in batch] == [
        marker(1), text("a"), text("b"), text("c"),
    ]  # fmt: skip


async def test_a_heartbeat_carries_the_whole_last_id(log: Log, ref: MessageRef, viewer: Listener) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a")
    await append(log, own, 4)
    assert (await viewer.heard())[-1] == str(Cursor(own.epoch, 3)).encode()


async def test_a_repeated_append_says_where_the_log_stands(log: Log, ref: MessageRef, viewer: Listener) -> None:
    """Its own publication may be what was lost."""
    own = await started(log, ref)
    await append(log, own, 3, "a")
    await append(log, own, 3, "a")
    assert (await viewer.heard())[-1] == str(Cursor(own.epoch, 3)).encode()


async def test_a_forced_end_chains_to_the_last_entry(log: Log, ref: MessageRef, viewer: Listener, link: Link) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a")
    await run_out(link, ref)
    await log.force(await seen(log, ref), ending("failed", text("b")))
    prev, batch = parse((await viewer.heard())[-1])
    entries = await log.read_all(ref)
    assert prev == entries[2].cursor
    assert batch == entries[3:]


async def test_what_is_refused_is_not_published(log: Log, ref: MessageRef, viewer: Listener, link: Link) -> None:
    own = await started(log, ref)
    await run_out(link, ref)
    await claim(log, ref, seen=1)
    before = list(await viewer.heard())
    await append(log, own, 4, "ghost")
    await append(log, own, 9, "gap")
    await log.finish(own, 4, ending())
    await log.decide(own, ending())
    await log.release(own)
    await log.stop(ref)
    await create(log, ref)
    assert await viewer.heard() == before
