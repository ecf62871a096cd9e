"""Reads: a record, a page from a cursor, a whole log; and the due index."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from shared.cursor import Cursor
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import DUE, META_PATTERN, log_keys, ref_of_meta_key
from shared.log.log import PAGE, Log
from tests.support.log import append, claim, create, ending, payloads, seen, started


async def test_nothing_is_known_of_a_message_that_never_was(log: Log, ref: MessageRef) -> None:
    assert await log.meta(ref) is None
    assert await log.backup(ref) is None
    assert await log.final(ref) is None
    assert await log.request(ref) is None
    assert await log.tombstone(ref) is None
    assert await log.active(ref.tenant, ref.chat_id) is None
    assert await log.in_flight(ref.tenant, ref.chat_id) == []
    assert await log.read(ref, None) == []
    assert await log.read(ref, Cursor(1763643672123456, 3)) == []
    assert await log.read_all(ref) == []


async def test_a_record_carries_the_servers_clock(log: Log, ref: MessageRef, link: Link) -> None:
    await create(log, ref)
    seconds, micros = await link.call("TIME")
    meta = await seen(log, ref)
    assert 0 <= meta.now - (int(seconds) * 1000 + int(micros) // 1000) < 5_000
    assert meta.born <= meta.now


async def test_a_read_begins_with_its_cursors_own_entry(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b", "c")
    entries = await log.read_all(ref)
    assert await log.read(ref, entries[2].cursor) == entries[2:]
    assert await log.read(ref, entries[2].cursor, 2) == entries[2:4]
    assert await log.read(ref, entries[-1].cursor) == entries[-1:]


async def test_a_cursor_that_is_not_in_the_log_does_not_come_back(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b")
    entries = await log.read_all(ref)
    foreign = replace_epoch(entries[2].cursor, -1)
    for cursor in (Cursor(own.epoch, 9), foreign, replace_epoch(entries[2].cursor, 1)):
        rows = await log.read(ref, cursor)
        assert not rows or rows[0].cursor != cursor


def replace_epoch(cursor: Cursor, by: int) -> Cursor:
    return Cursor(cursor.epoch + by, cursor.seq)


async def test_a_whole_log_is_read_page_by_page(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    for length in (PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE + 1):
        have = (await seen(log, ref)).seq
        await append(log, own, have + 1, *(str(n) for n in range(have, length)))
        entries = await log.read_all(ref)
        assert [entry.cursor.seq for entry in entries] == list(range(1, length + 1))
        assert [entry async for page in log.pages(ref) for entry in page] == entries


async def test_whether_a_message_was_taken_over(log: Log, ref: MessageRef) -> None:
    assert not await log.was_taken_over(ref)
    own = await started(log, ref)
    await append(log, own, 3, "a")
    assert not await log.was_taken_over(ref)
    await log.release(own)
    assert not await log.was_taken_over(ref)
    await claim(log, ref)
    assert await log.was_taken_over(ref)


async def test_pages_of_two_logs_are_never_joined(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await append(log, own, 3, *(str(n) for n in range(PAGE)))
    pages = log.pages(ref)
    assert len(await anext(pages)) == PAGE
    await link.call("DEL", log_keys(ref).stream)
    await link.call("XADD", log_keys(ref).stream, f"{own.epoch + 5}-1", "d", "new")
    assert [page async for page in pages] == []


async def test_a_log_replaced_while_it_is_read_is_read_anew(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await append(log, own, 3, *(str(n) for n in range(PAGE)))
    reads = 0

    class Replacing(Log):
        async def read(self, *args: object) -> list:  # type: ignore[type-arg]
            nonlocal reads
            reads += 1
            if reads == 2:
                await link.call("DEL", log_keys(ref).stream)
                for seq in (1, 2):
                    await link.call("XADD", log_keys(ref).stream, f"{own.epoch + 5}-{seq}", "d", f"new{seq}")
            return await super().read(*args)  # type: ignore[arg-type]

    entries = await Replacing(link, log._retention).read_all(ref)
    assert [entry.raw for entry in entries] == [b"new1", b"new2"]


async def test_an_overdue_message_comes_up_and_comes_up_again_unless_unwatched(log: Log, ref: MessageRef) -> None:
    await log.watch(ref, 0)
    assert await log.overdue(10, 0) == [ref]
    assert await log.overdue(10, 60_000) == [ref]
    assert await log.overdue(10, 60_000) == []
    await log.watch(ref, 0)
    await log.unwatch(ref)
    assert await log.overdue(10, 0) == []


async def test_a_watch_replaces_the_earlier_appointment(log: Log, ref: MessageRef, link: Link) -> None:
    await log.watch(ref, 60_000)
    await log.watch(ref, 0)
    assert await log.overdue(10, 60_000) == [ref]
    await log.watch(ref, 0)
    await log.watch(ref, 60_000)
    assert await log.overdue(10, 60_000) == []
    seconds, _ = await link.call("TIME")
    assert 0 < float(await link.call("ZSCORE", DUE, ref.member)) - int(seconds) * 1000 <= 62_000


async def test_several_reapers_share_what_is_overdue(log: Log, ref: MessageRef) -> None:
    refs = {replace(ref, message_id=f"m{n}") for n in range(50)}
    for each in refs:
        await log.watch(each, 0)
    shares = await asyncio.gather(*(log.overdue(10, 60_000) for _ in range(8)))
    assert sorted(len(share) for share in shares) == [0, 0, 0, 10, 10, 10, 10, 10]
    assert {each for share in shares for each in share} == refs


async def test_a_scan_finds_every_record_and_nothing_else(log: Log, link: Link, ref: MessageRef) -> None:
    refs = {ref, replace(ref, chat_id="{}:*?[a]/💬", message_id=":meta"), replace(ref, tenant="ä:meta")}
    for each in refs:
        await create(log, each)
        await log.watch(each, 0)
    ended = replace(ref, message_id="ended", chat_id="other")
    own = await started(log, ended)
    await log.finish(own, 3, ending())
    keys: list[bytes] = []
    cursor = b"0"
    while True:
        cursor, page = await link.call("SCAN", cursor, "MATCH", META_PATTERN, "COUNT", 100)
        keys += page
        if cursor == b"0":
            break
    assert {ref_of_meta_key(key.decode()) for key in keys} == {*refs, ended}
    assert len(await payloads(log, ended)) == 3
