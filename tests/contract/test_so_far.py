"""What a message amounts to so far: the same with segments, without, with half of them and with somebody else's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import PAGE, Log
from shared.log.so_far import SoFar, read_so_far
from shared.message import Message, encode_message
from tests.support.log import (
    Failover,
    append,
    checkpoint,
    claim,
    ending,
    run_out,
    segment_of,
    segments_of,
    started,
)


async def as_read(log: Log, ref: MessageRef) -> SoFar:
    """Read it, and hold what was read against the whole log."""
    so_far = await read_so_far(log, ref)
    entries = await log.read_all(ref)
    assert so_far.last == (entries[-1] if entries else None)
    plain = await SoFar([], entries, None).fold(Message())
    assert encode_message(await so_far.fold(Message())) == encode_message(plain)
    return so_far


async def words(log: Log, ref: MessageRef) -> SoFar:
    own = await started(log, ref)
    await append(log, own, 3, *"abcdef")
    await checkpoint(log, own, 3, 6)
    return await as_read(log, ref)


async def put(link: Link, ref: MessageRef, rows: Sequence[bytes]) -> None:
    """Put these rows in the place of the message's segments."""
    key = log_keys(ref).segments
    await link.call("DEL", key)
    await link.call("RPUSH", key, *rows)


async def test_segments_come_first_and_then_the_entries_behind_them(log: Log, ref: MessageRef) -> None:
    so_far = await words(log, ref)
    assert [len(segment.lines) for segment in so_far.segments] == [3, 1]
    assert [entry.cursor.seq for entry in so_far.entries] == [7, 8]


async def test_a_segment_may_end_at_the_last_entry_there_is(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await checkpoint(log, own, 2)
    so_far = await as_read(log, ref)
    assert (len(so_far.segments), so_far.entries) == (1, [])


async def test_the_end_can_be_left_out(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await checkpoint(log, own, 2)
    await log.finish(own, 3, ending())
    entries = await log.read_all(ref)
    whole, part = await as_read(log, ref), await read_so_far(log, ref, with_end=False)
    assert (whole.last, part.last) == (entries[2], entries[1])
    assert len(part.segments) == 1


async def test_there_may_be_nothing(log: Log, ref: MessageRef, link: Link) -> None:
    assert (await as_read(log, ref)).last is None
    await words(log, ref)
    await link.call("DEL", log_keys(ref).stream)  # the replay is over; segments alone say nothing
    assert (await as_read(log, ref)).last is None


async def test_more_than_a_page_may_stand_behind_the_last_segment(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await append(log, own, 3, *(f"{n} " for n in range(PAGE + 50)))
    await checkpoint(log, own, 3)
    assert len((await as_read(log, ref)).entries) == PAGE + 49


async def test_segments_of_a_lost_branch_are_not_believed(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "kept ")
    replica = Failover(link)
    await replica.replicate()
    await append(log, own, 4, "lost", "lost too")
    await checkpoint(log, own, 3, 4)
    rows = [segment.encode() for segment in await log.segments(ref)]
    await replica.promote()
    await run_out(link, ref)
    successor = await claim(log, ref, seen=1)
    await append(log, successor, 5, "another", "answer")
    await put(link, ref, rows)
    so_far = await as_read(log, ref)
    assert so_far.segments == []


async def test_their_owner_puts_its_own_in_the_place_of_such(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await append(log, own, 3, "a", "b", "c")
    foreign = segments_of(await log.read_all(ref), 2, 4)
    await put(link, ref, [segment.encode().replace(b"-4\n", b"-9\n") for segment in foreign])
    assert (await as_read(log, ref)).segments == []
    await checkpoint(log, own, 3)
    assert len((await as_read(log, ref)).segments) == 1


@pytest.mark.parametrize(
    ("rows", "left"),
    [
        (lambda a, b, c: [b, c], 0),
        (lambda a, b, c: [a, c], 1),
        (lambda a, b, c: [a, b, b, c], 2),
        (lambda a, b, c: [a, b, b"2 " + c], 2),
        (lambda a, b, c: [a, b"", b, c], 1),
        (lambda a, b, c: [b"\xff\xfe", b, c], 0),
        (lambda a, b, c: [a.replace(b"- ", b"-  "), b, c], 0),
    ],
)
async def test_behind_a_break_or_an_unknown_form_the_log_is_read(
    log: Log, ref: MessageRef, link: Link, rows: object, left: int
) -> None:
    own = await started(log, ref)
    await append(log, own, 3, *"abcdef")
    stored = [segment.encode() for segment in segments_of(await log.read_all(ref), 3, 5, 7)]
    await put(link, ref, rows(*stored))  # type: ignore[operator]  # one of the functions above
    assert len((await as_read(log, ref)).segments) == left


async def test_a_log_that_was_replaced_between_two_pages_is_read_anew(log: Log, ref: MessageRef) -> None:
    class Changing(Log):
        """Has another branch in the log's place once the segments have been read."""

        async def segments(self, ref: MessageRef) -> list[object]:  # type: ignore[override]  # nothing but what it finds
            found = await super().segments(ref)
            await run_out(self._link, ref)
            await claim(self, ref, seen=1)
            key = log_keys(ref).stream
            await self._link.call("XDEL", key, str(found[-1].last))
            return list(found)

    own = await started(log, ref)
    await append(log, own, 3, "a", "b")
    await checkpoint(log, own, 4)
    changing = Changing(log._link, log._retention)
    assert (await read_so_far(changing, ref)).segments == []


async def test_a_segment_is_of_one_line_where_all_is_one_text(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await append(log, own, 3, *(f"{n} " for n in range(500)))
    entries = (await log.read_all(ref))[2:]
    assert len(segment_of(entries).lines) == 1
    assert len(segment_of(entries).encode()) < 2000
