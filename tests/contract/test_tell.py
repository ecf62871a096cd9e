"""Tell: that somebody has got the end is written down once it is there, and changes nothing else."""

from __future__ import annotations

from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from tests.support.log import append, ending, payloads, seen, started


async def test_an_end_is_told_once_or_often(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await log.finish(own, 3, ending())
    before = await seen(log, ref)
    assert not before.told
    for _ in range(2):
        await log.tell(ref)
        after = await seen(log, ref)
        assert after.told
        assert (after.state, after.cursor, after.user) == (before.state, before.cursor, before.user)


async def test_the_first_time_stays(log: Log, ref: MessageRef, link: Link) -> None:
    """Or whoever asks again and again would always be within the grace period."""
    own = await started(log, ref)
    await log.finish(own, 3, ending())
    await log.tell(ref)
    told_at = (await seen(log, ref)).told_at
    assert abs((await seen(log, ref)).now - told_at) < 60_000
    await link.call("HSET", log_keys(ref).meta, "told", told_at - 1000)
    await log.tell(ref)
    assert (await seen(log, ref)).told_at == told_at - 1000


async def test_what_has_not_ended_is_not_told(log: Log, ref: MessageRef) -> None:
    own = await started(log, ref)
    await log.tell(ref)
    assert not (await seen(log, ref)).told
    assert (await append(log, own, 3, "a")).status == "ok"


async def test_telling_makes_no_record_and_no_lifetime(log: Log, ref: MessageRef, link: Link) -> None:
    await log.tell(ref)
    assert await log.meta(ref) is None
    own = await started(log, ref)
    await log.finish(own, 3, ending())
    left = await link.call("PTTL", log_keys(ref).meta)
    await log.tell(ref)
    assert 0 < await link.call("PTTL", log_keys(ref).meta) <= left
    assert await payloads(log, ref)
