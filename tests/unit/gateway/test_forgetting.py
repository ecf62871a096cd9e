"""The forgetter's end: it comes in whatever moment `close` is called, and `close` does not wait for ever."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.openai import forgetting
from gateway.openai.forgetting import Forgetter
from shared.feed import Feed
from shared.ids import MessageRef
from shared.log.log import Log


class Asked:
    """A log that has no message, and keeps for which it was asked."""

    def __init__(self) -> None:
        self.refs: list[MessageRef] = []

    async def meta(self, ref: MessageRef) -> Any:
        self.refs.append(ref)


class Deaf(Asked):
    """One that is asked for ever, cancelled or not, until it is `heard`."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = asyncio.Event()

    async def meta(self, ref: MessageRef) -> Any:
        await super().meta(ref)
        while not self.heard.is_set():
            try:
                await self.heard.wait()
            except asyncio.CancelledError:
                continue


def forgetter(log: Asked, *, grace_s: float) -> Forgetter:
    return Forgetter(cast(Log, log), cast(Feed, None), grace_s=grace_s)


async def pass_turns(count: int) -> None:
    """Let the loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


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


async def test_the_end_is_not_waited_for_for_ever(ref: MessageRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "CLOSE_WITHIN_S", 0.05)
    log = Deaf()
    ours = forgetter(log, grace_s=0)
    ours.open()
    ours.later(ref)
    await pass_turns(5)
    assert log.refs == [ref]
    closing = asyncio.create_task(ours.close())
    done, _ = await asyncio.wait({closing}, timeout=5)
    log.heard.set()
    assert done, "it waits for a task that ignores its cancellation"
    await closing
    await pass_turns(5)  # the task has heard of it
