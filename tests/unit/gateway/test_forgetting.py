"""What is forgotten, and the forgetter's end: it comes whenever `close` is called, which does not wait for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from gateway import forgetting
from gateway.forgetting import Forgetter
from shared.feed import Feed
from shared.ids import MessageRef
from shared.link import Link
from shared.log.log import Log
from tests.support.deaf import Deaf
from tests.support.log import created, ending, seen, started
from tests.support.wait import pass_turns, wait_until


class Asked:
    """A log that has no message, and keeps for which it was asked."""

    def __init__(self) -> None:
        self.refs: list[MessageRef] = []

    async def meta(self, ref: MessageRef) -> Any:
        self.refs.append(ref)


def forgetter(log: Asked, *, grace_s: float) -> Forgetter:
    return Forgetter(cast(Log, log), cast(Feed, None), grace_s=grace_s)


@pytest.mark.parametrize("turns", range(4))
async def test_one_more_to_forget_just_before_the_end_does_not_put_it_off(ref: MessageRef, turns: int) -> None:
    log = Asked()
    ours = forgetter(log, grace_s=60)
    ours.open()
    ours.later(ref)
    await pass_turns(5)  # it waits for the grace to be over

    async def end() -> None:
        ours.later(ref)
        await pass_turns(turns)
        await ours.close()

    done, _ = await asyncio.wait({asyncio.create_task(end())}, timeout=forgetting.CLOSE_WITHIN_S / 2)
    assert done, f"still forgetting, closed {turns} turns of the loop later"
    assert log.refs == [ref, ref]  # before their time


async def test_what_is_not_over_when_its_time_comes_is_left_to_its_retention(
    log: Log, link: Link, ref: MessageRef
) -> None:
    """Its client left before the end; somebody may still have the answer by its key."""
    running, over = (replace(ref, message_id=name) for name in ("running", "over"))
    await started(log, running)
    await created(log, over, policy="parallel")
    await log.force(await seen(log, over), ending("aborted"))
    ours = Forgetter(log, Feed(link, keep_s=60), grace_s=0)
    ours.open()
    for each in (running, over):
        ours.later(each)

    async def forgotten() -> bool:
        return (await seen(log, over)).state == "deleted"

    await wait_until(forgotten)
    await ours.close()
    assert (await seen(log, running)).state == "running"


async def test_the_end_is_not_waited_for_for_ever(ref: MessageRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "CLOSE_WITHIN_S", 0.05)
    deaf = Deaf()
    closing = await end(deaf, ref)
    done, _ = await asyncio.wait({closing}, timeout=5)
    deaf.heard.set()
    assert done, "it waits for a task that ignores its cancellation"
    await closing
    await pass_turns(5)  # the task has heard of it


async def test_who_is_cancelled_in_closing_is_cancelled(ref: MessageRef) -> None:
    deaf = Deaf()
    closing = await end(deaf, ref)
    closing.cancel()
    deaf.heard.set()
    await asyncio.wait({closing})
    assert closing.cancelled()


async def end(deaf: Deaf, ref: MessageRef) -> asyncio.Task[None]:
    """Return the closing of a forgetter that is deaf, which waits for that already."""
    log = Asked()
    log.meta = deaf.listen  # type: ignore[method-assign]  # it is only about when that ends
    ours = forgetter(log, grace_s=0)
    ours.open()
    ours.later(ref)
    await deaf.begun.wait()
    closing = asyncio.create_task(ours.close())
    await deaf.called.wait()
    return closing
