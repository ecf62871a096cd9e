"""Pages of the log: long ones of short entries, short ones of long entries, and who shares one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.live.pages import FIRST_PAGE, MOST_ENTRIES, MOST_KEPT, PAGE_BYTES, Page, Pages
from shared.cursor import Cursor
from shared.events import TextDelta, encode_event
from shared.log.log import Log
from shared.log.types import Entry
from tests.support.redis import RedisServer
from tests.support.writer import LogWriter


def page(count: int, size: int, asked: int = FIRST_PAGE) -> Page:
    return Page([Entry(Cursor(1795758565100580, seq), b"x" * size) for seq in range(1, count + 1)], asked)


@pytest.mark.parametrize("size", [1, 100, 3_000, 70_000, 5_000_000])
def test_a_viewer_that_takes_nothing_sits_on_a_bounded_page(size: int) -> None:
    then = page(FIRST_PAGE, size).then
    assert 2 <= then <= MOST_ENTRIES
    assert then * size <= max(PAGE_BYTES, 2 * size)


def test_short_entries_come_many_at_a_time() -> None:
    assert page(FIRST_PAGE, 100).then == MOST_ENTRIES


def test_a_page_is_full_when_it_has_all_that_was_asked_for() -> None:
    assert page(10, 5, asked=10).full
    assert not page(9, 5, asked=10).full
    assert not page(0, 5).full
    assert page(0, 5).then == FIRST_PAGE


@pytest.fixture
async def pages(log: Log) -> AsyncIterator[Pages]:
    async with asyncio.TaskGroup() as tasks:
        yield Pages(log, tasks.create_task)


def commands(redis_server: RedisServer) -> int:
    with redis_server.admin() as client:
        return int(client.info("commandstats").get("cmdstat_xrange", {"calls": 0})["calls"])


async def test_who_comes_a_moment_later_gets_what_was_read_and_is_told_to_go_on(
    pages: Pages, writer: LogWriter, redis_server: RedisServer
) -> None:
    await writer.start()
    await writer.say(*(f"w{n} " for n in range(FIRST_PAGE)))
    together = await asyncio.gather(*(pages.read(writer.ref, None, MOST_ENTRIES) for _ in range(5)))
    assert len({id(page) for page in together}) == 1
    assert not together[0].full
    await writer.say("later ")
    before = commands(redis_server)
    kept = await pages.read(writer.ref, None, MOST_ENTRIES)
    assert commands(redis_server) == before
    assert kept.entries is together[0].entries
    assert kept.full
    rest = await pages.read(writer.ref, kept.entries[-1].cursor)
    assert [entry.raw for entry in rest.entries][1:] == [encode_event(TextDelta("t0", "later "))]


async def test_what_is_kept_is_forgotten_together(pages: Pages, writer: LogWriter, redis_server: RedisServer) -> None:
    await writer.start()
    await writer.say(*(f"w{n} " for n in range(FIRST_PAGE)))
    await pages.read(writer.ref, None)
    pages.forget()
    before = commands(redis_server)
    await pages.read(writer.ref, None)
    assert commands(redis_server) == before + 1


async def test_short_pages_large_ones_and_too_many_are_not_kept(pages: Pages, writer: LogWriter) -> None:
    await writer.start()
    await writer.say(*(f"w{n} " for n in range(FIRST_PAGE)))
    first = (await pages.read(writer.ref, None)).entries
    assert not (await pages.read(writer.ref, first[5].cursor)).full  # as it was read
    assert not (await pages.read(writer.ref, first[5].cursor)).full
    for count in range(FIRST_PAGE + 1, FIRST_PAGE + MOST_KEPT + 5):
        await pages.read(writer.ref, None, count)
    assert len(pages._kept) == MOST_KEPT
    pages.forget()
    await writer.say(*("x" * 4000 for _ in range(FIRST_PAGE)))
    await pages.read(writer.ref, None, MOST_ENTRIES)
    assert not pages._kept
