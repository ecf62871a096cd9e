"""Ten thousand stops, in random order, racing with claims and finishes: no pointer to an ended message stays behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable
from random import Random
from typing import Any

import pytest

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Claimed, Ownership
from tests.support.log import claim, created, ending, try_claim

CHATS, PER_CHAT, AT_ONCE = 2_000, 5, 400
REFS = [MessageRef("t", f"chat-{chat}", f"m{n}") for chat in range(CHATS) for n in range(PER_CHAT)]


async def together(work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run everything, `AT_ONCE` at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def run(one: Coroutine[Any, Any, Any]) -> Any:
        async with gate:
            return await one

    return await asyncio.gather(*(run(one) for one in work))


async def stop(log: Log, ref: MessageRef, owner: Ownership | None, outcomes: Counter[str]) -> None:
    """What a gateway does, and the owner when it hears of it."""
    status = (await log.stop(ref)).status
    outcomes[status] += 1
    if status == "ownerless":
        meta = await log.meta(ref)
        assert meta is not None
        assert (await log.force(meta, ending("aborted"))).status in ("ok", "final")  # a stopped one is never claimed
    elif status == "stopping" and owner is not None:
        await log.finish(owner, 3, ending("aborted"))


async def race(log: Log, ref: MessageRef, owner: Ownership | None) -> None:
    """What a worker does meanwhile without knowing of the stop."""
    if owner is not None:
        await log.finish(owner, 3, ending("done"))
    else:
        reply = await try_claim(log, ref)
        if isinstance(reply, Claimed):
            await log.finish(reply.ownership, 3, ending("aborted"))


@pytest.mark.slow
async def test_ten_thousand_stops_leave_no_active_pointer(log: Log, link: Link) -> None:
    dice = Random(20)
    order = dice.sample(REFS, len(REFS))
    # One chat's messages one after the other, so that the youngest is known; chats side by side.
    for n in range(PER_CHAT):
        await together(created(log, ref, policy="parallel") for ref in REFS[n::PER_CHAT])
    kinds = {ref: dice.choice(("finished", "running", "queued")) for ref in REFS}
    claimed = [ref for ref in REFS if kinds[ref] != "queued"]
    owners: dict[MessageRef, Ownership] = dict(
        zip(claimed, await together(claim(log, ref) for ref in claimed), strict=True)
    )
    await together(log.finish(owners[ref], 3, ending("done")) for ref in claimed if kinds[ref] == "finished")
    assert await link.call("EVAL", "return #redis.call('KEYS', ARGV[1])", 0, "tr:*::active") > CHATS * 0.9

    outcomes: Counter[str] = Counter()
    work = [stop(log, ref, owners.get(ref), outcomes) for ref in order]
    work += [race(log, ref, owners.get(ref)) for ref in dice.sample(REFS, len(REFS) // 3)]
    dice.shuffle(work)
    await together(work)

    assert min(outcomes[status] for status in ("final", "stopping", "ownerless")) > 1_000, outcomes
    left = [*await link.call("KEYS", "tr:*::active"), *await link.call("KEYS", "tr:*::live")]
    assert left == []
    for start in range(0, len(REFS), 1_000):
        states = await asyncio.gather(
            *(link.call("HGET", log_keys(ref).meta, "st") for ref in REFS[start : start + 1_000])
        )
        assert set(states) <= {b"done", b"aborted"}
