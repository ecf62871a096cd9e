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

HELD_MS = 60_000


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


async def test_a_message_is_queued_once_and_keeps_its_place(
    dispatcher: Dispatcher, link: Link, ref: MessageRef
) -> None:
    other = MessageRef("t", "c", "other")
    await dispatcher.dispatch(ref)
    await until_next_ms(link)
    await dispatcher.dispatch(other)
    await until_next_ms(link)
    for _ in range(3):
        await dispatcher.dispatch(ref)
    assert await jobs(link) == [ref.member, other.member]
    assert await dispatcher.depth() == 2


async def test_what_was_begun_goes_first_also_if_it_is_queued_already(dispatcher: Dispatcher, link: Link) -> None:
    refs = [MessageRef("t", "c", f"m{number}") for number in range(4)]
    for ref in refs:
        await dispatcher.dispatch(ref, begun=ref in refs[2:3])
        await until_next_ms(link)
    await dispatcher.dispatch(refs[3], begun=True)
    await dispatcher.dispatch(refs[2])
    assert await jobs(link) == [refs[number].member for number in (2, 3, 0, 1)]


async def test_only_what_is_not_queued_yet_wakes_workers(
    dispatcher: Dispatcher, redis_url: str, ref: MessageRef
) -> None:
    async with Listener(redis_url, WAKE) as listener:
        await dispatcher.dispatch(ref)
        await dispatcher.dispatch(ref)
        assert len(await listener.heard()) == 1


async def test_a_job_is_picked_by_one_and_gone_when_done(dispatcher: Dispatcher, link: Link, ref: MessageRef) -> None:
    await dispatcher.dispatch(ref)
    (job,) = await dispatcher.pick(QUEUE_NAME, 5, HELD_MS)
    assert json.loads(job.body)["a"] == [ref.member]
    assert await dispatcher.pick(QUEUE_NAME, 5, HELD_MS) == []
    await dispatcher.leave(job, done=True)
    assert await dispatcher.depth() == 0
    assert await link.call("KEYS", "arq:*") == []


async def test_a_job_put_back_is_there_for_others(dispatcher: Dispatcher, ref: MessageRef) -> None:
    await dispatcher.dispatch(ref)
    (job,) = await dispatcher.pick(QUEUE_NAME, 5, HELD_MS)
    await dispatcher.leave(job, done=False)
    (again,) = await dispatcher.pick(QUEUE_NAME, 5, HELD_MS)
    assert (again.job_id, again.body) == (job.job_id, job.body)


async def test_a_job_is_there_again_when_its_worker_has_died(dispatcher: Dispatcher, ref: MessageRef) -> None:
    await dispatcher.dispatch(ref)
    await dispatcher.pick(QUEUE_NAME, 5, 1)
    await wait_until(lambda: dispatcher.pick(QUEUE_NAME, 5, HELD_MS))


async def test_a_dispatch_during_the_look_is_not_lost_with_it(
    dispatcher: Dispatcher, redis_url: str, ref: MessageRef
) -> None:
    await dispatcher.dispatch(ref)
    (early,) = await dispatcher.pick(QUEUE_NAME, 5, HELD_MS)
    async with Listener(redis_url, WAKE) as listener:
        await dispatcher.dispatch(ref)
        assert len(await listener.heard()) == 1
    await dispatcher.leave(early, done=True)
    (job,) = await dispatcher.pick(QUEUE_NAME, 5, HELD_MS)
    assert job.job_id == early.job_id
    await dispatcher.leave(early, done=False)  # its mark is not the one that stands now
    assert await dispatcher.pick(QUEUE_NAME, 5, HELD_MS) == []
    await dispatcher.leave(job, done=True)
    assert await dispatcher.depth() == 0


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
