"""Very many are looked after in turns: nobody waits for all of them, nobody suffers from another one's failure."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gateway.live.turns import A_TURN, in_turns

pytestmark = pytest.mark.asyncio


async def test_the_loop_turns_between_a_few_and_the_next_few() -> None:
    turns, handled = 0, Counter[int]()

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def do(_: int) -> None:
        handled[turns] += 1

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
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
    assert "not looked after" in caplog.text


async def test_who_comes_and_goes_meanwhile_upsets_nothing() -> None:
    items, seen = dict.fromkeys(range(3 * A_TURN)), set[int]()

    def do(item: int) -> None:
        items.pop(item)
        items[-item - 1] = None
        seen.add(item)

    await in_turns(items, do)
    assert seen == set(range(3 * A_TURN))
