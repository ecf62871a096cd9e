"""A test's child processes: each has a log of its own, however many are started side by side."""

from __future__ import annotations

import asyncio

from tests.support.processes import ProcessGroup


async def test_children_that_are_started_side_by_side_have_a_log_each() -> None:
    async with ProcessGroup() as group:
        starts = (group.spawn("child", 0, ("-c", f"print('{word}')"), {}) for word in ("one", "two"))
        children = await asyncio.gather(*starts)
        for child in children:
            assert await child.wait() == 0
        assert [child.tail() for child in children] == ["one", "two"]
        assert len({child.name for child in children}) == 2
