"""The queue's poller: it takes what nobody has, and ends when told to, in whatever moment of a poll that comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from shared.dispatch import Dispatcher
from shared.ids import MessageRef
from shared.jobs import QUEUE_NAME
from shared.link import Link
from shared.redis import resolver
from shared.tasks import end_tasks
from tests.support.redis import RedisServer
from tests.support.wait import wait_until
from worker.dispatch import Queue
from worker.intake import Intake
from worker.supervisor import Supervisor


class _Taker:
    """An intake that finds nothing to do, and a supervisor with room for it."""

    free = 10

    def __init__(self) -> None:
        self.taken: list[MessageRef] = []

    async def take(self, ref: MessageRef) -> None:
        self.taken.append(ref)

    def reserve(self) -> bool:
        return True

    def unreserve(self) -> None:
        pass


async def stat(link: Link, name: str) -> int:
    """Return one of the server's counters."""
    rows = (await link.call("INFO", "stats")).decode().splitlines()
    return next(int(row.partition(":")[2]) for row in rows if row.startswith(f"{name}:"))


async def test_jobs_that_others_have_hide_nothing_behind_them(redis_url: str, link: Link) -> None:
    dispatcher, taker = Dispatcher(link), _Taker()
    for number in range(500):
        await dispatcher.dispatch(MessageRef("acme", "chat", f"theirs-{number}"))
    for job_id in await link.call("ZRANGE", QUEUE_NAME, 0, -1):
        await link.call("SET", b"arq:in-progress:" + job_id, "1")
    wanted = [MessageRef("acme", "chat", f"ours-{number}") for number in range(3)]
    for ref in wanted:
        await dispatcher.dispatch(ref)
    queue = Queue(redis_url, cast(Intake, taker), cast(Supervisor, taker), dispatcher, poll_s=60)
    polling = asyncio.create_task(queue.run())
    await wait_until(lambda: len(taker.taken) == 3)
    assert set(taker.taken) == set(wanted)
    await end_tasks(polling)


async def test_a_long_queue_is_not_read_to_take_a_little_of_it(redis_url: str, link: Link) -> None:
    dispatcher, taker = Dispatcher(link), _Taker()
    for number in range(400):
        await dispatcher.dispatch(MessageRef("acme", "chat", f"message-{number}"))
    before = await stat(link, "total_net_output_bytes")
    taker.free = 1
    queue = Queue(redis_url, cast(Intake, taker), cast(Supervisor, taker), dispatcher, poll_s=60)
    polling = asyncio.create_task(queue.run())
    await wait_until(lambda: taker.taken)
    assert await stat(link, "total_net_output_bytes") - before < 8000  # with the ids of all 400 jobs: 12,760
    await end_tasks(polling)


async def test_many_jobs_at_a_time_need_no_connection_each(redis_url: str, link: Link) -> None:
    """One after the other they would wait for theirs, some turns of a busy loop each: a few jobs a second."""
    dispatcher, taker = Dispatcher(link), _Taker()
    for number in range(50):
        await dispatcher.dispatch(MessageRef("acme", "chat", f"message-{number}"))
    before = await stat(link, "total_connections_received")
    taker.free = 50
    queue = Queue(redis_url, cast(Intake, taker), cast(Supervisor, taker), dispatcher, poll_s=60)
    polling = asyncio.create_task(queue.run())
    await wait_until(lambda: len(taker.taken) == 50)
    await wait_until(lambda: _is_empty(dispatcher))
    assert await stat(link, "total_connections_received") - before == 1  # the poll's own
    await end_tasks(polling)


async def _is_empty(dispatcher: Dispatcher) -> bool:
    return await dispatcher.depth() == 0


async def test_a_job_that_found_no_free_slot_is_anybodys_again(redis_url: str, link: Link) -> None:
    dispatcher, taker = Dispatcher(link), _Taker()
    asked = asyncio.Event()

    def refuse() -> bool:
        asked.set()
        return False

    taker.reserve = refuse  # type: ignore[method-assign]  # the slot was taken since the poll asked how many are free
    await dispatcher.dispatch(MessageRef("acme", "chat", "message"))
    queue = Queue(redis_url, cast(Intake, taker), cast(Supervisor, taker), dispatcher, poll_s=60)
    polling = asyncio.create_task(queue.run())
    await asyncio.wait_for(asked.wait(), 10)
    await end_tasks(polling)
    assert taker.taken == []
    assert len(await dispatcher.pick(QUEUE_NAME, 1, 1000)) == 1


async def test_a_job_that_cannot_be_run_leaves_the_queue(redis_url: str, link: Link) -> None:
    dispatcher, taker = Dispatcher(link), _Taker()
    await dispatcher.dispatch(MessageRef("acme", "chat", "message"))
    (job_id,) = await link.call("ZRANGE", QUEUE_NAME, 0, -1)
    await link.call("SET", b"arq:job:" + job_id, "no job")
    queue = Queue(redis_url, cast(Intake, taker), cast(Supervisor, taker), dispatcher, poll_s=60)
    polling = asyncio.create_task(queue.run())
    await wait_until(lambda: _is_empty(dispatcher))
    assert taker.taken == []
    await end_tasks(polling)


async def test_a_cancellation_in_the_middle_of_a_poll_is_heeded(redis_url: str, link: Link) -> None:
    dispatcher, taker = Dispatcher(link), _Taker()
    for turns in range(40):
        for number in range(3):
            await dispatcher.dispatch(MessageRef("acme", "chat", f"message-{number}"))
        queue = Queue(redis_url, cast(Intake, taker), cast(Supervisor, taker), dispatcher, poll_s=60)
        polling = asyncio.create_task(queue.run())
        for _ in range(turns):  # into a poll, a little further each time
            await asyncio.sleep(0)
        polling.cancel()
        done, _ = await asyncio.wait({polling}, timeout=5)
        assert done, f"still polling, cancelled after {turns} turns of the loop"


async def test_a_redis_that_answers_nothing_does_not_hold_a_poll_up_for_minutes(
    start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's own time-outs and repetitions, one inside the other, would: a worker then counts as hung."""
    monkeypatch.setattr("worker.dispatch._POLL_WITHIN_S", 0.2, raising=False)
    redis = start_redis()
    link = Link(resolver(redis.url), name="queue")
    await link.open(wait_s=5)
    taker = _Taker()
    queue = Queue(redis.url, cast(Intake, taker), cast(Supervisor, taker), Dispatcher(link), poll_s=0.05)
    polling = asyncio.create_task(queue.run())
    polls: set[float | None] = set()

    def polled(times: int) -> bool:
        polls.add(queue.last_poll)
        return len(polls) > times

    await wait_until(lambda: polled(3))
    await asyncio.to_thread(redis.pause)
    so_far = len(polls)
    await wait_until(lambda: polled(so_far + 4), deadline_s=8, what="a poll does not end")
    await asyncio.to_thread(redis.resume)
    await end_tasks(polling)
    await link.close()
