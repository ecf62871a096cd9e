"""The stand-ins for uvicorn's parts do what it asks of them."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.slim import LazyEvent, SlimQueue


async def test_an_event_wakes_everybody_who_waits_and_no_longer_once_it_is_cleared() -> None:
    event = LazyEvent()
    waiting = [asyncio.create_task(event.wait()) for _ in range(3)]
    await asyncio.sleep(0)  # they have begun
    assert not any(task.done() for task in waiting)
    event.set()
    await asyncio.gather(*waiting)
    await event.wait()
    event.clear()
    late = asyncio.create_task(event.wait())
    await asyncio.sleep(0)  # it has begun
    assert not late.done()
    event.set()
    await late


async def test_who_is_cancelled_while_it_waits_leaves_the_event_in_order() -> None:
    event = LazyEvent()
    one, other = asyncio.create_task(event.wait()), asyncio.create_task(event.wait())
    await asyncio.sleep(0)  # they have begun
    one.cancel()
    event.set()
    await other
    assert (await asyncio.gather(one, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_an_event_may_begin_set() -> None:
    await LazyEvent(is_set=True).wait()


def test_a_queue_gives_back_in_a_deques_order() -> None:
    slim: SlimQueue[int] = SlimQueue()
    real: deque[int] = deque()
    for queue in (slim, real):
        for item in range(5):
            queue.appendleft(item)
    assert [slim.pop() for _ in range(5)] == [real.pop() for _ in range(5)]
    assert not slim
