"""Snapshots of long answers: from any gateway the bytes that the whole log gives, however much of it is in segments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.protocols.native import snapshot
from shared.cursor import Cursor
from shared.events import TextStart, encode_event
from shared.fold import fold
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.segments import SEGMENT_ENTRIES, fitting
from shared.log.types import Entry
from shared.message import encode_message
from tests.integration.conftest import MakeGateway
from tests.integration.worker_kit import Kit, attempts, open_kit
from tests.support.gateway import running
from tests.support.log import checkpoint
from tests.support.processes import chat_model
from tests.support.wait import wait_until

STREAM = "/chats/c/messages/m/stream?from=snapshot"
LONG = "[[rate=800 tokens=24000 reasoning=40 markdown=0]] the long river"
"""Longer than anybody waits: it is stopped. Entries count, not tokens: on a slow machine several share one."""


async def first_event(client: httpx.AsyncClient, url: str) -> bytes:
    """Return a stream's first whole event, without the connection's own lines."""
    read = b""
    async with client.stream("GET", url) as response:
        assert response.status_code == 200
        async for piece in response.aiter_bytes():
            read += piece
            if b"data: " in read and b"\n\n" in (event := read[read.index(b"id: ") :]):
                return event[: event.index(b"\n\n") + 2]
    raise AssertionError("the stream has no event")


def expected(entries: list[Entry]) -> bytes:
    """Return the event that the whole log gives."""
    return snapshot(fold(entry.event for entry in entries), entries[-1])


async def test_both_gateways_tell_the_same_with_segments_and_without(
    make_gateway: MakeGateway, log: Log, link: Link
) -> None:
    async with make_gateway() as one, make_gateway() as two, one.client() as a, two.client() as b:
        writer = await running(a, log)
        await writer.append(encode_event(TextStart("t0")))
        for at in range(0, 2600, 650):
            await writer.say(*(f"{n} " for n in range(at, at + 650)))
        want, read = expected(await log.read_all(writer.ref)), []
        for cuts in ((1000, 2000), (700, 1400, writer.seq), ()):
            await link.call("DEL", log_keys(writer.ref).segments)
            await checkpoint(log, writer.own, *cuts)
            for client in (a, b):
                assert await first_event(client, STREAM) == want
                read.append((await client.get("/chats/c/messages/m")).json())
        assert all(view["message"] == read[-1]["message"] and view["cursor"] == read[-1]["cursor"] for view in read)


async def test_an_ended_answer_begins_with_its_snapshot_and_goes_on_with_its_end(
    client: httpx.AsyncClient, log: Log
) -> None:
    writer = await running(client, log)
    await writer.append(encode_event(TextStart("t0")))
    await writer.say("one ", "two ", "three")
    await checkpoint(log, writer.own, 2, writer.seq)
    await writer.finish()
    entries = await log.read_all(writer.ref)
    body = (await client.get(STREAM)).content
    assert body[body.index(b"id: ") :].startswith(expected(entries[:-1]))
    assert body.count(b"\ndata: ") == 2


@pytest.fixture
async def kit(redis_url: str) -> AsyncIterator[Kit]:
    async with open_kit(redis_url) as kit:
        yield kit


async def has_segments(kit: Kit, ref: MessageRef, count: int) -> None:
    """Wait until a worker has written so many."""

    async def there() -> bool:
        return len(await kit.log.segments(ref)) >= count

    await wait_until(there, deadline_s=60, what=f"{count} segments")


async def stopped(kit: Kit, ref: MessageRef) -> None:
    """Stop the answer and wait for its end."""
    await kit.log.stop(ref)
    assert (await kit.ended(ref)).state == "aborted"


async def check_segments(kit: Kit, ref: MessageRef) -> None:
    """Hold what was written against the log; one that was due at the very end may be missing."""
    entries, segments = await kit.log.read_all(ref), await kit.log.segments(ref)
    assert len(segments) >= max((len(entries) - 500) // SEGMENT_ENTRIES, 1)
    assert fitting(segments, entries) == segments


@pytest.mark.timeout(90)
async def test_late_viewers_of_a_running_answer_get_what_its_log_says_at_their_cursor(kit: Kit) -> None:
    await kit.worker()
    models = [chat_model(kit.model.port)]
    gateways = [await kit.group.gateway(kit.redis_url, models) for _ in range(2)]
    async with httpx.AsyncClient(timeout=20) as client:
        body = {"messages": [{"role": "user", "content": LONG}], "message_id": "m"}
        assert (await client.post(f"{gateways[0].url}/chats/c/messages", json=body)).status_code == 202
        ref, got = await only_message(kit), list[bytes]()
        while len(await kit.log.segments(ref)) < 2:
            got += await asyncio.gather(*(first_event(client, each.url + STREAM) for each in gateways))
        await stopped(kit, ref)
    entries = await kit.log.read_all(ref)
    for event in got:
        at = Cursor.from_redis(event[4 : event.index(b"\n")])
        assert event == expected(entries[: at.seq])
    assert max(Cursor.from_redis(event[4 : event.index(b"\n")]).seq for event in got) > 1000
    await check_segments(kit, ref)


async def only_message(kit: Kit) -> MessageRef:
    """Return the one message there is."""
    _, (ref,) = await kit.log.sweep("0", 10_000)
    return ref


@pytest.mark.timeout(90)
async def test_a_taken_over_answer_has_its_segments_gone_on_with(kit: Kit) -> None:
    first = await kit.worker()
    ref = await kit.send(LONG)
    await has_segments(kit, ref, 1)
    await first.kill()
    before = await kit.log.segments(ref)
    await kit.worker()
    await has_segments(kit, ref, len(before) + 1)
    await stopped(kit, ref)
    events = await kit.events(ref)
    assert len(attempts(events)) == 2
    assert (await kit.log.segments(ref))[: len(before)] == before
    await check_segments(kit, ref)
    final = await kit.log.final(ref)
    assert final == encode_message(fold(events))
