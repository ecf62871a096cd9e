"""The way into the queue: in order, immune to wrong clocks, waking idle workers, readable without Python."""

from __future__ import annotations

import json
import time

import pytest

from shared.dispatch import Dispatcher
from shared.ids import MessageRef
from shared.jobs import JOB_NAME, QUEUE_NAME
from shared.link import Link
from shared.log.keys import WAKE
from tests.support.log import Listener
from tests.support.wait import wait_until


@pytest.fixture
def dispatcher(link: Link) -> Dispatcher:
    return Dispatcher(link)


async def jobs(link: Link) -> list[str]:
    """Return the members of the queued jobs, next first."""
    ids = await link.call("ZRANGE", QUEUE_NAME, 0, -1)
    return [json.loads(await link.call("GET", b"arq:job:" + job_id))["a"][0] for job_id in ids]


async def until_next_ms(link: Link) -> None:
    """Wait until the server's clock shows another millisecond."""

    async def now_ms() -> int:
        seconds, micros = await link.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    before = await now_ms()

    async def later() -> bool:
        return await now_ms() > before

    await wait_until(later)


async def test_a_job_is_json_and_names_the_message(dispatcher: Dispatcher, link: Link, ref: MessageRef) -> None:
    await dispatcher.dispatch(ref)
    (job_id,) = await link.call("ZRANGE", QUEUE_NAME, 0, -1)
    job = json.loads(await link.call("GET", b"arq:job:" + job_id))
    assert (job["f"], job["a"], job["k"]) == (JOB_NAME, [ref.member], {})
    assert 0 < await link.call("PTTL", b"arq:job:" + job_id) <= 24 * 3600 * 1000


async def test_each_dispatch_is_a_job_of_its_own(dispatcher: Dispatcher, ref: MessageRef) -> None:
    await dispatcher.dispatch(ref)
    await dispatcher.dispatch(ref)
    assert await dispatcher.depth() == 2


async def test_reminders_of_a_message_do_not_pile_up_and_keep_their_place(
    dispatcher: Dispatcher, link: Link, ref: MessageRef
) -> None:
    other = MessageRef("t", "c", "other")
    await dispatcher.remind(ref)
    await until_next_ms(link)
    await dispatcher.dispatch(other)
    await until_next_ms(link)
    for _ in range(3):
        await dispatcher.remind(ref)
    assert await jobs(link) == [ref.member, other.member]


async def test_a_reminder_is_its_own_job_beside_the_first(dispatcher: Dispatcher, link: Link, ref: MessageRef) -> None:
    await dispatcher.dispatch(ref)
    await dispatcher.remind(ref)
    assert await jobs(link) == [ref.member] * 2


async def test_a_reminder_frees_one_that_a_dead_worker_has(
    dispatcher: Dispatcher, link: Link, redis_url: str, ref: MessageRef
) -> None:
    await dispatcher.remind(ref)
    (job_id,) = await link.call("ZRANGE", QUEUE_NAME, 0, -1)
    await link.call("SET", b"arq:in-progress:" + job_id, "1")
    async with Listener(redis_url, WAKE) as listener:
        await dispatcher.remind(ref)
        assert len(await listener.heard()) == 1
    assert await link.call("EXISTS", b"arq:in-progress:" + job_id) == 0
    assert await jobs(link) == [ref.member]


async def test_only_what_is_not_queued_yet_wakes_workers(
    dispatcher: Dispatcher, redis_url: str, ref: MessageRef
) -> None:
    async with Listener(redis_url, WAKE) as listener:
        await dispatcher.remind(ref)
        await dispatcher.remind(ref)
        assert len(await listener.heard()) == 1


async def test_jobs_are_in_order_and_older_than_any_wrong_clock(dispatcher: Dispatcher, link: Link) -> None:
    refs = [MessageRef("t", "c", f"m{number}") for number in range(3)]
    for ref in refs:
        await dispatcher.dispatch(ref)
        await until_next_ms(link)
    scores = (await link.call("ZRANGE", QUEUE_NAME, 0, -1, "WITHSCORES"))[1::2]
    assert max(float(score) for score in scores) < (time.time() - 5 * 365 * 86_400) * 1000
    assert await jobs(link) == [ref.member for ref in refs]


@pytest.mark.parametrize("wake", [True, False])
async def test_idle_workers_are_woken_unless_it_was_handed_back(
    dispatcher: Dispatcher, redis_url: str, ref: MessageRef, wake: bool
) -> None:
    async with Listener(redis_url, WAKE) as listener:
        await dispatcher.dispatch(ref, wake=wake)
        assert len(await listener.heard()) == int(wake)
