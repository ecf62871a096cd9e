"""The reader's rules: a viewer gets every entry once, in order, whatever the live link drops, doubles or invents.

Rows 3, 6 and 7 of the protocol's mends live here, each as a directed test.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.live.pages import FIRST_PAGE
from gateway.live.tail import Tail
from gateway.protocols import WIRES
from gateway.protocols.native import frame
from shared.cursor import Cursor
from shared.events import Attempt, End, TextDelta, encode_event
from shared.ids import MessageRef
from shared.log.keys import log_keys
from shared.log.log import Log
from tests.support.redis import RedisServer
from tests.support.wait import wait_until
from tests.support.writer import LogWriter
from tests.unit.gateway.conftest import Gallery, Recording, Watching

END_PAYLOAD = encode_event(End("done"))


async def whole(log: Log, ref: MessageRef) -> str:
    """What an uninterrupted viewer of the native wire must have got."""
    return b"".join(frame(entry.cursor.id, entry.raw) for entry in await log.read_all(ref)).decode()


async def test_a_viewer_gets_the_whole_log_and_then_the_live_entries(gallery: Gallery, writer: LogWriter) -> None:
    await writer.start()
    await writer.say("a ", "b ")
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "b " in watching.sink.text)
    await writer.say("c ")
    await writer.finish()
    assert await watching.outcome() == "ended"
    assert watching.sink.text == await whole(writer.log, writer.ref)


async def test_viewers_that_join_at_any_moment_of_a_fast_writer_miss_nothing(
    gallery: Gallery, writer: LogWriter
) -> None:
    await writer.start()
    rng = random.Random(7)

    async def write() -> None:
        for n in range(600):
            await writer.say(*(f"w{n}.{k} " for k in range(rng.choice((1, 1, 1, 7)))))
        await writer.finish()

    writing = asyncio.create_task(write())
    watchings: list[Watching] = []
    while not writing.done() and len(watchings) < 300:
        watchings.append(await gallery.watch(writer.ref))
        await writer.log.active("acme", "nothing")  # lets a random number of appends pass
    await writing
    expected = await whole(writer.log, writer.ref)
    for watching in watchings:
        assert await watching.outcome() == "ended"
        assert watching.sink.text == expected


async def test_a_viewer_resumes_after_its_cursor(gallery: Gallery, writer: LogWriter) -> None:
    await writer.start()
    await writer.say("a ", "b ", "c ")
    entries = await writer.log.read_all(writer.ref)
    watching = await gallery.watch(writer.ref, cursor=entries[3].cursor)
    await writer.finish()
    assert await watching.outcome() == "ended"
    tail = (await writer.log.read_all(writer.ref))[4:]
    assert watching.sink.text == b"".join(frame(entry.cursor.id, entry.raw) for entry in tail).decode()


async def test_a_forged_or_stale_batch_is_not_taken(gallery: Gallery, writer: LogWriter) -> None:
    """Row 3: a batch counts only if the id before it is the cursor; the log is asked otherwise."""
    await writer.start()
    await writer.say("true ")
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "true " in watching.sink.text)
    epoch, seq = writer.own.epoch, writer.seq
    channel = log_keys(writer.ref).stream
    lie = encode_event(TextDelta("t0", "lie ")).decode()
    for head in (
        f"{epoch}-{seq - 1} {epoch} {seq + 1}",  # the entry before it is not ours
        f"{epoch - 5}-{seq} {epoch - 5} {seq + 1}",  # another branch
        f"{epoch}-{seq + 3} {epoch} {seq + 4}",  # a hole before it
    ):
        await gallery.hub.log._link.call("PUBLISH", channel, f"{head}\n{lie}")
    await writer.say("and true ")
    await writer.finish()
    assert await watching.outcome() == "ended"
    assert watching.sink.text == await whole(writer.log, writer.ref)
    assert "lie" not in watching.sink.text


async def test_a_lost_batch_is_read_from_the_log_when_the_next_one_comes(
    gallery: Gallery, writer: LogWriter, redis_server: RedisServer
) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "text-start" in watching.sink.text)
    append_unheard(redis_server, writer, encode_event(TextDelta("t0", "unheard ")))
    await writer.say("heard ")
    await watching.sink.until(lambda: "heard " in watching.sink.text and "unheard " in watching.sink.text)
    await writer.finish()
    assert await watching.outcome() == "ended"
    assert watching.sink.text == await whole(writer.log, writer.ref)


async def test_a_heartbeat_shows_that_the_last_entry_was_lost(
    gallery: Gallery, writer: LogWriter, redis_server: RedisServer
) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "text-start" in watching.sink.text)
    append_unheard(redis_server, writer, encode_event(TextDelta("t0", "last ")))
    await writer.heartbeat()
    await watching.sink.until(lambda: "last " in watching.sink.text)


async def test_a_lost_end_is_found_when_the_link_stays_silent(
    gallery: Gallery, writer: LogWriter, redis_server: RedisServer
) -> None:
    """Row 7: no heartbeat follows an end, so silence makes the tail look at the record and then at the log."""
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "text-start" in watching.sink.text)
    append_unheard(redis_server, writer, END_PAYLOAD, state="done")
    assert await watching.outcome() == "ended"
    assert watching.sink.blocks[-1].endswith(END_PAYLOAD.decode())


async def test_a_killed_live_link_costs_nothing(gallery: Gallery, writer: LogWriter, redis_server: RedisServer) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    for n in range(200):
        await writer.say(f"w{n} ")
        if n % 40 == 20:
            with redis_server.admin() as client:
                client.client_kill_filter(_type="pubsub")
    await writer.finish()
    assert await watching.outcome() == "ended"
    assert watching.sink.text == await whole(writer.log, writer.ref)


async def test_a_cursor_that_is_not_in_the_log_gets_a_reset_and_the_whole_log(
    gallery: Gallery, writer: LogWriter
) -> None:
    await writer.start()
    await writer.say("a ")
    await writer.finish()
    real = (await writer.log.read_all(writer.ref))[-2].cursor
    for wrong in (Cursor(real.epoch + 7, 2), Cursor(real.epoch, 999), Cursor(real.epoch - 1_000_000, 3)):
        watching = await gallery.watch(writer.ref, cursor=wrong)
        assert await watching.outcome() == "ended"
        reset, rest = watching.sink.text.split("\n\n", 1)
        assert '"type":"reset"' in reset
        assert "id:" not in reset
        assert rest == await whole(writer.log, writer.ref)


@contextmanager
def lost_by_a_failover(redis_server: RedisServer, writer: LogWriter) -> Iterator[None]:
    """Have Redis lose what happens within the block, and the writer its lease."""
    with redis_server.admin() as client:
        before = {key: client.dump(key) for key in client.keys("tr:*")}
        yield
        client.flushdb()
        for key, value in before.items():
            client.restore(key, 0, value)
        client.hset(log_keys(writer.ref).meta, "lu", 0)


async def test_a_viewer_of_a_lost_branch_is_reset(
    gallery: Gallery, writer: LogWriter, redis_server: RedisServer
) -> None:
    """A failover lost the claim and what it wrote; another worker goes on from before it."""
    await writer.create()
    await writer.claim()
    with lost_by_a_failover(redis_server, writer):
        await writer.say("lost ")
        watching = await gallery.watch(writer.ref)
        await watching.sink.until(lambda: "lost " in watching.sink.text)
    successor = LogWriter(writer.log, writer.ref)
    await successor.claim(attempts_seen=1)
    await successor.say("kept ")
    await successor.finish()
    assert await watching.outcome() == "ended"
    after_reset = watching.sink.text.split('"replay":true}\n\n', 1)[1]
    assert after_reset == await whole(writer.log, writer.ref)
    assert "lost " not in after_reset


async def test_a_slow_viewer_that_counts_events_is_broken_off_a_lost_branch(
    gallery: Gallery, writer: LogWriter, redis_server: RedisServer
) -> None:
    """It has fallen behind and would skip as many events as it has: of another log, they are other events."""
    await writer.start()
    watching = await gallery.watch(writer.ref, wire=WIRES["chat_completions"], buffer_bytes=2_000)
    with lost_by_a_failover(redis_server, writer):
        await writer.say("old ")
        await watching.sink.until(lambda: "old " in watching.sink.text)
        watching.sink.open_gate.clear()
        await writer.say(*("x" * 50 for _ in range(30)))
        await wait_until(lambda: not watching.viewer.live)
    tail = next(iter(gallery.hub._tails.values()))
    successor = LogWriter(writer.log, writer.ref)
    await successor.claim(attempts_seen=1)
    await successor.say(*(f"new {n} " for n in range(50)))
    await wait_until(lambda: tail.position is not None and tail.position.epoch == successor.own.epoch)
    watching.sink.open_gate.set()
    assert await watching.outcome() == "broken"
    assert "new" not in watching.sink.text


async def test_a_replay_finds_out_by_itself_that_the_log_is_another(
    gallery: Gallery, writer: LogWriter, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, with a tail that has heard of nothing."""
    await writer.start()
    watching = await gallery.watch(writer.ref, wire=WIRES["chat_completions"])
    with lost_by_a_failover(redis_server, writer):
        await writer.say("old 1 ", "old 2 ")
        await watching.sink.until(lambda: "old 2 " in watching.sink.text)
        tail = next(iter(gallery.hub._tails.values()))
        await wait_until(lambda: watching.viewer.live and watching.viewer.cursor == tail.position)
    elsewhere = LogWriter(writer.log, writer.ref)
    monkeypatch.setattr(Tail, "heal", lambda self: None)
    await elsewhere.claim(attempts_seen=1)
    await elsewhere.say(*(f"new {n} " for n in range(50)))
    watching.viewer.fall_behind()
    assert await watching.outcome() == "broken"
    assert "new" not in watching.sink.text


async def test_pages_kept_of_a_lost_branch_are_given_to_nobody_who_knows_better(
    gallery: Gallery, writer: LogWriter, redis_server: RedisServer
) -> None:
    """As above, with a log so long that its pages are kept for others; none is forgotten by the clock."""
    assert gallery.hub._ticker is not None
    gallery.hub._ticker.cancel()
    await writer.create()
    await writer.claim()
    with lost_by_a_failover(redis_server, writer):
        await writer.say(*(f"lost {n} " for n in range(FIRST_PAGE)))
        watching = await gallery.watch(writer.ref)
        await watching.sink.until(lambda: f"lost {FIRST_PAGE - 1} " in watching.sink.text)
        await gallery.hub.pages.read(writer.ref, None, watching.viewer._page_entries)  # somebody else's new beginning
    successor = LogWriter(writer.log, writer.ref)
    await successor.claim(attempts_seen=1)
    await successor.say("kept ")
    await successor.finish()
    late = await gallery.watch(writer.ref)
    for each in (watching, late):
        assert await each.outcome() == "ended"
        assert each.sink.text.count('"replay":true') <= 1
        assert each.sink.text.split('"replay":true}\n\n', 1)[-1] == await whole(writer.log, writer.ref)


async def test_a_vanished_log_is_waited_for_and_goes_on_without_a_reset(
    gallery: Gallery, writer: LogWriter, redis_server: RedisServer
) -> None:
    """Row 6: between total loss and RESTORE nobody is told that the message is gone."""
    await writer.start()
    await writer.say("a ")
    entries = await writer.log.read_all(writer.ref)
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "a " in watching.sink.text)
    with redis_server.admin() as client:
        client.flushdb()
    tail = next(iter(gallery.hub._tails.values()))
    await wait_until(lambda: tail.lost)  # the silent link made it look
    # A viewer that did not look itself before the log came back would show nothing.
    await wait_until(lambda: watching.viewer._vanished_at is not None)
    await writer.restore(entries)
    await writer.say("b ")
    await writer.finish()
    assert await watching.outcome() == "ended"
    assert watching.sink.text == await whole(writer.log, writer.ref)


async def test_what_a_slow_viewer_had_not_been_sent_when_the_log_vanished_comes_once_it_is_back(
    gallery: Gallery, writer: LogWriter, redis_server: RedisServer
) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    quick = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "text-start" in watching.sink.text)
    gallery.hub.viewers.discard(watching.viewer)  # its send time-out is another test's
    watching.sink.open_gate.clear()
    for word in ("one ", "two ", "three "):  # the first is being sent, the others wait
        await writer.say(word)
        await quick.sink.until(lambda word=word: word in quick.sink.text)  # type: ignore[misc]
    entries = await writer.log.read_all(writer.ref)
    with redis_server.admin() as client:
        client.flushdb()
    await wait_until(lambda: quick.viewer._vanished_at is not None)
    await writer.restore(entries)
    watching.sink.open_gate.set()
    await writer.finish()
    assert await watching.outcome() == "ended"
    assert watching.sink.text == await whole(writer.log, writer.ref)


async def test_a_deleted_message_breaks_its_viewers(gallery: Gallery, writer: LogWriter) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "text-start" in watching.sink.text)
    assert await writer.log.delete(writer.ref)
    assert await watching.outcome() == "broken"


async def test_a_slow_viewer_has_a_bounded_buffer_and_loses_nothing(gallery: Gallery, writer: LogWriter) -> None:
    await writer.start()
    sink = Recording()
    slow = await gallery.watch(writer.ref, sink=sink, buffer_bytes=2000)
    quick = await gallery.watch(writer.ref)
    await sink.until(lambda: "text-start" in sink.text)
    gallery.hub.viewers.discard(slow.viewer)  # its send time-out is another test's
    sink.open_gate.clear()
    largest = 0
    for n in range(300):
        await writer.say(f"word-{n} ")
        await quick.sink.until(lambda n=n: f"word-{n} " in quick.sink.text[-400:])  # type: ignore[misc]
        largest = max(largest, slow.viewer._pending_bytes)
    assert largest <= 2000
    sink.open_gate.set()
    await writer.finish()
    assert await slow.outcome() == "ended"
    assert await quick.outcome() == "ended"
    assert sink.text == quick.sink.text == await whole(writer.log, writer.ref)


async def test_a_socket_that_takes_nothing_is_given_up(gallery: Gallery, writer: LogWriter) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "text-start" in watching.sink.text)
    watching.sink.open_gate.clear()
    await writer.say("a ")
    assert await watching.outcome() == "broken"
    assert watching.sink.aborted


async def test_a_quiet_connection_hears_comment_lines_only(gallery: Gallery, writer: LogWriter) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: b": ping\n" in watching.sink.writes)
    assert not any(b"ping\n\n" in write for write in watching.sink.writes)


async def test_a_connection_rotates_at_its_time_without_a_clean_end(gallery: Gallery, writer: LogWriter) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "text-start" in watching.sink.text)
    gallery.hub.drain(0.1)
    assert await watching.outcome() == "broken"


async def test_watchers_of_a_message_that_nobody_works_on_ask_for_a_worker(
    gallery: Gallery, log: Log, ref: MessageRef, dispatched: list[MessageRef]
) -> None:
    writer = LogWriter(log, ref)
    await writer.create()
    watching = await gallery.watch(ref)
    await watching.sink.until(lambda: "created" in watching.sink.text)
    await wait_until(lambda: ref in dispatched)


async def test_a_message_that_a_worker_holds_is_left_to_it(
    gallery: Gallery, writer: LogWriter, dispatched: list[MessageRef]
) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: watching.sink.writes.count(b": ping\n") >= 4)
    assert dispatched == []


async def test_the_last_viewer_gone_ends_the_tail(gallery: Gallery, log: Log, ref: MessageRef) -> None:
    writer = LogWriter(log, ref)
    await writer.start()
    async with gallery.hub.tail(ref), gallery.hub.tail(ref):
        assert gallery.hub.tails == 1
    assert gallery.hub.tails == 0


def append_unheard(server: RedisServer, writer: LogWriter, payload: bytes, state: str = "running") -> None:
    """Append as the scripts do, but without the publish: what a lossy link looks like to its reader."""
    keys = log_keys(writer.ref)
    writer.seq += 1
    with server.admin() as client:
        client.xadd(keys.stream, {"d": payload}, id=f"{writer.own.epoch}-{writer.seq}")
        client.hset(keys.meta, mapping={"seq": writer.seq, "st": state})


async def test_a_takeover_is_followed_in_order(gallery: Gallery, log: Log, ref: MessageRef) -> None:
    first = LogWriter(log, ref, lease_ms=1)
    await first.start()
    await first.say("one ")
    watching = await gallery.watch(ref)
    second = LogWriter(log, ref)
    await second.claim(attempts_seen=1)
    await second.say("two ")
    await second.finish()
    assert await watching.outcome() == "ended"
    assert watching.sink.text == await whole(log, ref)
    assert encode_event(Attempt(2, "worker_lost", "start")).decode() in watching.sink.text
