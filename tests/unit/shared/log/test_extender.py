"""Extending many logs together: one transaction for a round, one round in a window, and no message pays for another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from shared.ids import MessageRef
from shared.link import Link
from shared.log import extender
from shared.log.extender import Extension
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Ownership, Retention
from shared.redis import resolver
from tests.support.log import extend, payloads, started, text


async def owned(log: Log, ref: MessageRef, count: int) -> list[Ownership]:
    """Start messages in chats of their own."""
    return [await started(log, replace(ref, chat_id=f"{ref.chat_id}-{n}")) for n in range(count)]


async def extended(log: Log, owners: Sequence[Ownership], last: int = 2) -> list[bool]:
    """Extend all of these logs at one time."""
    return list(await asyncio.gather(*(extend(log, own, last, "a") for own in owners)))


async def test_what_one_turn_brings_is_one_command(log: Log, link: Link, ref: MessageRef) -> None:
    owners = await owned(log, ref, 3)
    before = link.stats.commands
    assert await extended(log, owners) == [True, True, True]
    assert link.stats.commands == before + 1
    for own in owners:
        assert (await payloads(log, own.ref))[2:] == [text("a")]


async def test_a_transaction_is_bounded_in_messages_and_in_bytes(
    log: Log, link: Link, ref: MessageRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = await owned(log, ref, 5)
    monkeypatch.setattr(extender, "MOST_TOGETHER", 2)
    before = link.stats.commands
    assert await extended(log, owners) == [True] * 5
    assert link.stats.commands == before + 3
    monkeypatch.setattr(extender, "MOST_TOGETHER", 100)
    monkeypatch.setattr(extender, "MOST_BYTES", len(text("a")))
    assert await extended(log, owners, 3) == [True] * 5
    assert link.stats.commands == before + 6


async def test_a_refused_one_costs_the_others_nothing(log: Log, link: Link, ref: MessageRef) -> None:
    owners = await owned(log, ref, 3)
    await link.call("DEL", log_keys(owners[1].ref).stream)
    assert await extended(log, owners) == [True, False, True]
    assert [len(await payloads(log, own.ref)) for own in owners] == [3, 0, 3]


async def test_who_is_asked_or_told_and_breaks_costs_the_others_nothing(log: Log, ref: MessageRef) -> None:
    broken, sound = await owned(log, ref, 2)

    def breaks(went_well: bool) -> None:
        raise RuntimeError(went_well)

    said = Extension(broken, 2, [text("a")], 5, breaks)
    log.extender.soon(lambda now: breaks(now > 0))
    log.extender.soon(lambda _now: said)
    assert await extend(log, sound, 2, "a")


async def test_rounds_keep_apart_and_whoever_comes_after_a_quiet_one_does_not_wait(link: Link, ref: MessageRef) -> None:
    window_s, loop = 0.3, asyncio.get_running_loop()
    log = Log(link, Retention(), gather_s=window_s)
    own, other = await owned(log, ref, 2)
    spoken: asyncio.Future[float] = loop.create_future()
    asked = loop.time()
    log.extender.soon(spoken.set_result)
    assert not spoken.done(), "what the turn still brings goes with it"
    assert await spoken - asked < window_s
    assert await extended(log, [own, other]) == [True, True]
    assert loop.time() - await spoken >= window_s * 0.99


async def test_what_is_urgent_waits_for_no_window_and_takes_along_who_does(link: Link, ref: MessageRef) -> None:
    window_s, loop = 5.0, asyncio.get_running_loop()
    log = Log(link, Retention(), gather_s=window_s)
    own, other, third = await owned(log, ref, 3)
    assert await extend(log, own, 2, "a")
    began = loop.time()

    async def heard() -> float:
        heard_at: asyncio.Future[float] = loop.create_future()
        log.extender.soon(heard_at.set_result, urgent=True)
        return await heard_at

    landed, first, second = await asyncio.gather(extend(log, other, 2, "a"), heard(), heard())
    assert landed
    assert max(first, second) - began < window_s / 2
    landed, _ = await asyncio.gather(extend(log, third, 2, "a"), heard())
    assert landed
    assert loop.time() - began < window_s / 2


async def test_without_a_connection_everybody_hears_so(redis_url: str, log: Log, ref: MessageRef) -> None:
    owners = await owned(log, ref, 2)
    cut_off = Log(Link(resolver(redis_url), name="never opened"), Retention())
    assert await extended(cut_off, owners) == [False, False]
