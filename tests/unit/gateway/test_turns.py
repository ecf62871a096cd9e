"""Very many are looked after in turns: nobody waits for all of them, nobody suffers from another one's failure."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gateway.live.follower import Outcome
from gateway.live.hub import Hub, HubSettings
from gateway.live.turns import A_TURN, in_turns
from gateway.protocols.native import NATIVE
from shared.log.log import Log
from shared.redis import resolver


async def test_the_loop_turns_between_a_few_and_the_next_few() -> None:
    turns, handled = 0, Counter[int]()

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)  # a turn of the loop, which is what is counted here

    def do(_: int) -> None:
        handled[turns] += 1

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)  # it has begun
    await in_turns(range(10 * A_TURN + 1), do)
    counting.cancel()
    assert sum(handled.values()) == 10 * A_TURN + 1
    assert max(handled.values()) == A_TURN
    assert len(handled) == 11


async def test_what_one_raises_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def do(item: int) -> None:
        if item == 1:
            raise ValueError(item)
        seen.append(item)

    await in_turns({0, 1, 2}, do)
    assert sorted(seen) == [0, 2]
    assert "item failed" in caplog.text


async def test_who_comes_and_goes_meanwhile_upsets_nothing() -> None:
    items, seen = dict.fromkeys(range(3 * A_TURN)), set[int]()

    def do(item: int) -> None:
        items.pop(item)
        items[-item - 1] = None
        seen.add(item)

    await in_turns(items, do)
    assert seen == set(range(3 * A_TURN))


class Inseparable:
    """Connections of one client, which has left: as soon as one is ended, so are the others."""

    wire, break_at, last_write, gone = NATIVE, float("inf"), float("inf"), True

    def __init__(self, hub: Hub, ended: asyncio.Queue[Inseparable]) -> None:
        self._hub, self._ended = hub, ended

    def stuck(self, now: float) -> float:
        return 0.0

    def ping(self, line: bytes) -> None:
        pytest.fail("it has left")

    def stop(self, outcome: Outcome) -> None:
        self._hub.viewers.clear()
        self._ended.put_nowait(self)

    def abandon(self) -> None:
        pytest.fail("it is not stuck")


async def test_who_has_left_since_the_tick_began_is_not_looked_after(log: Log, redis_url: str) -> None:
    hub, ended = Hub(log, resolver(redis_url), HubSettings(tick_s=0.05)), asyncio.Queue[Inseparable]()
    await hub.open()
    try:
        hub.viewers.update(Inseparable(hub, ended) for _ in range(3))
        await asyncio.wait_for(ended.get(), 10)
        assert ended.empty()
    finally:
        await hub.close()
