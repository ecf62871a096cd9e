"""Ending tasks: all are cancelled and waited for, and nothing is raised but what was meant for whoever ends them."""

from __future__ import annotations

import asyncio
import gc

import pytest

from shared.tasks import end_tasks
from tests.support.deaf import Deaf


async def fail() -> None:
    raise ZeroDivisionError


async def fail_in_the_end() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ZeroDivisionError


async def test_all_are_cancelled_before_any_is_waited_for() -> None:
    first, second = Deaf(), Deaf()
    tasks = [asyncio.create_task(deaf.listen()) for deaf in (first, second)]
    await first.begun.wait()
    await second.begun.wait()
    ending = asyncio.create_task(end_tasks(*tasks))
    await first.called.wait()
    await second.called.wait()
    first.heard.set()
    await asyncio.wait(tasks[:1])
    assert not ending.done()
    second.heard.set()
    await ending
    assert all(task.done() for task in tasks)


async def test_where_there_is_none_nothing_is_waited_for() -> None:
    await end_tasks()
    await end_tasks(None)


async def test_who_is_cancelled_in_waiting_for_the_end_is_cancelled() -> None:
    deaf = Deaf()
    task = asyncio.create_task(deaf.listen())
    await deaf.begun.wait()
    ending = asyncio.create_task(end_tasks(task))
    await deaf.called.wait()
    ending.cancel()
    await asyncio.wait({ending})
    assert ending.cancelled()
    assert not task.done()
    deaf.heard.set()
    await asyncio.wait({task})


@pytest.mark.parametrize("work", [fail, fail_in_the_end])
async def test_a_failure_that_nobody_has_looked_at_is_said_once(caplog: pytest.LogCaptureFixture, work: object) -> None:
    task = asyncio.create_task(work(), name="ours")  # type: ignore[operator]  # one of the two
    await asyncio.sleep(0)  # it has failed, or has begun
    await end_tasks(task)
    await end_tasks(task)
    del task
    gc.collect()  # asyncio would say it now
    assert [record.name for record in caplog.records] == ["shared.tasks"]
    assert "ZeroDivisionError" in caplog.text


async def test_a_failure_that_was_looked_at_is_not_said_again(caplog: pytest.LogCaptureFixture) -> None:
    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    assert isinstance(task.exception(), ZeroDivisionError)
    await end_tasks(task)
    assert caplog.records == []
