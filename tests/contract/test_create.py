"""CREATE: one message a request, one message in flight a chat unless told otherwise, all or nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Created, Exists, Refused, Retention
from tests.support.log import (
    REQUEST,
    Listener,
    append,
    claim,
    create,
    created,
    ending,
    first_entry,
    payloads,
    run_out,
    seen,
    started,
)


async def test_a_created_message_is_queued_active_and_has_one_entry(log: Log, ref: MessageRef) -> None:
    first = await created(log, ref, deadline_ms=90_000)
    assert first.seq == 1
    meta = await seen(log, ref)
    assert (meta.state, meta.seq, meta.attempts, meta.user) == ("queued", 1, 0, "ann")
    assert meta.cursor == first
    assert meta.deadline - meta.born == 90_000
    assert await payloads(log, ref) == [first_entry(ref)]
    assert await log.request(ref) == REQUEST
    assert await log.active(ref.tenant, ref.chat_id) == ref.message_id
    assert await log.in_flight(ref.tenant, ref.chat_id) == [ref.message_id]


async def test_an_epoch_is_the_servers_time_in_sixteen_digits(log: Log, ref: MessageRef, link: Link) -> None:
    before = await link.call("TIME")
    first = await created(log, ref)
    assert len(str(first.epoch)) == 16
    assert int(before[0]) <= first.epoch // 1_000_000 <= int(before[0]) + 60


async def test_the_same_request_again_exists_and_changes_nothing(log: Log, ref: MessageRef) -> None:
    first = await created(log, ref)
    assert await create(log, ref) == Exists("queued", first)
    own = await claim(log, ref)
    assert await create(log, ref) == Exists("running", (await seen(log, ref)).cursor)
    await log.finish(own, 3, ending())
    ended = await create(log, ref)
    assert isinstance(ended, Exists)
    assert ended.state == "done"
    assert len(await payloads(log, ref)) == 3


async def test_another_body_under_the_same_id_conflicts(log: Log, ref: MessageRef) -> None:
    await create(log, ref)
    assert await create(log, ref, body_hash="other") == Refused("conflict")
    assert len(await payloads(log, ref)) == 1


async def test_a_busy_chat_names_its_active_message(log: Log, ref: MessageRef) -> None:
    await create(log, ref)
    second = replace(ref, message_id="second")
    assert await create(log, second) == Refused("busy", ref.message_id)
    assert await log.meta(second) is None


async def test_the_chat_is_free_again_after_the_end(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await log.finish(own, 3, ending())
    second = replace(ref, message_id="second")
    assert isinstance(await create(log, second), Created)
    assert await log.active(ref.tenant, ref.chat_id) == "second"


async def test_of_fifty_racing_messages_one_is_created(log: Log, ref: MessageRef) -> None:
    replies = await asyncio.gather(*(create(log, replace(ref, message_id=f"m{n}")) for n in range(50)))
    winners = [n for n, reply in enumerate(replies) if isinstance(reply, Created)]
    assert len(winners) == 1
    assert {reply for reply in replies if not isinstance(reply, Created)} == {Refused("busy", f"m{winners[0]}")}


async def test_replace_asks_the_message_in_flight_to_stop(log: Log, ref: MessageRef, redis_url: str) -> None:
    own = await started(log, ref, channel="tr:worker:one")
    second = replace(ref, message_id="second")
    async with Listener(redis_url, "tr:worker:one") as worker:
        assert isinstance(await create(log, second, policy="replace"), Created)
        assert await worker.heard() == [ref.message_id.encode()]
    assert (await append(log, own, 3, "a")).stop == "replaced"
    assert await log.active(ref.tenant, ref.chat_id) == "second"
    await log.finish(own, 4, ending("aborted"))
    assert await log.active(ref.tenant, ref.chat_id) == "second"


async def test_replace_keeps_an_earlier_wish_to_stop(log: Log, ref: MessageRef) -> None:
    await started(log, ref)
    await log.stop(ref, "user")
    await create(log, replace(ref, message_id="second"), policy="replace")
    assert (await seen(log, ref)).stop == "user"


async def test_parallel_messages_share_a_chat_up_to_a_bound(log: Log, ref: MessageRef) -> None:
    refs = [replace(ref, message_id=f"m{n}") for n in range(3)]
    for each in refs:
        assert isinstance(await create(log, each, policy="parallel", most_parallel=3), Created)
    assert await create(log, ref, policy="parallel", most_parallel=3) == Refused("full", "3")
    assert await log.in_flight(ref.tenant, ref.chat_id) == ["m0", "m1", "m2"]
    assert await log.active(ref.tenant, ref.chat_id) == "m2"


async def test_a_message_is_the_youngest_even_if_the_clock_stepped_back(log: Log, ref: MessageRef, link: Link) -> None:
    """Or was created in the same millisecond."""
    await create(log, ref, policy="parallel")
    await link.call("ZINCRBY", log_keys(ref).live, 3_600_000_000, ref.message_id)
    second = replace(ref, message_id="second")
    await create(log, second, policy="parallel")
    assert await log.in_flight(ref.tenant, ref.chat_id) == [ref.message_id, "second"]


async def test_the_active_pointer_moves_to_the_youngest_still_in_flight(log: Log, ref: MessageRef) -> None:
    refs = [replace(ref, message_id=f"m{n}") for n in range(3)]
    for each in refs:
        await create(log, each, policy="parallel")
    for each, left in ((refs[0], "m2"), (refs[2], "m1"), (refs[1], None)):
        own = await claim(log, each)
        await log.finish(own, 3, ending())
        assert await log.active(ref.tenant, ref.chat_id) == left


async def test_an_active_pointer_to_nothing_does_not_block_the_chat(log: Log, ref: MessageRef, link: Link) -> None:
    await create(log, ref)
    await link.call("DEL", log_keys(ref).meta, log_keys(ref).stream)
    second = replace(ref, message_id="second")
    assert isinstance(await create(log, second), Created)
    assert await log.in_flight(ref.tenant, ref.chat_id) == ["second"]


async def test_the_id_of_an_ended_message_is_not_used_again(log: Log, ref: MessageRef, link: Link) -> None:
    own = await started(log, ref)
    await log.finish(own, 3, ending())
    await link.call("DEL", log_keys(ref).meta, log_keys(ref).stream)  # retention is over, the tombstone stays
    assert await create(log, ref) == Refused("conflict")


async def test_chats_tenants_and_odd_ids_do_not_meet(log: Log) -> None:
    refs = [
        MessageRef("a", "b", "c"),
        MessageRef("a", "b/c", "c"),
        MessageRef("a/b", "c", "c"),
        MessageRef("a}", "{b", "c:meta"),
        MessageRef("a", "b:c", "::active"),
        MessageRef("ä", "чат", "💬\n*"),
        MessageRef("a\0", "=2F", "%"),
    ]
    for each in refs:
        assert isinstance(await create(log, each), Created), each
    for each in refs:
        assert await log.active(each.tenant, each.chat_id) == each.message_id
        assert await payloads(log, each) == [first_entry(each)]


async def test_every_key_of_a_live_message_expires_unless_renewed(link: Link, ref: MessageRef) -> None:
    log = Log(link, Retention(live_ms=50_000))
    own = await started(log, ref)
    keys = log_keys(ref)
    for key in (keys.meta, keys.stream, keys.active, keys.live):
        await link.call("PEXPIRE", key, 1000)
    await log.append(own, 3, [], lease_ms=1000, renew_ttl=False, deadline_s=5)
    assert await link.call("PTTL", keys.meta) <= 1000
    await log.append(own, 3, [], lease_ms=1000, renew_ttl=True, deadline_s=5)
    for key in (keys.meta, keys.stream, keys.active, keys.live):
        assert 1000 < await link.call("PTTL", key) <= 50_000, key


async def test_a_lease_that_ran_out_still_keeps_the_chat_busy(log: Log, ref: MessageRef, link: Link) -> None:
    await started(log, ref)
    await run_out(link, ref)
    assert await create(log, replace(ref, message_id="second")) == Refused("busy", ref.message_id)
