"""Owns the last look: waits until the fleet is at rest, then writes down every log and what is left lying about."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio

from shared.ids import MessageRef
from shared.jobs import CANCELS, QUEUE_NAME
from shared.log.keys import DUE, META_PATTERN, log_keys, ref_of_meta_key
from tests.chaos.fleet import Fleet
from tests.chaos.records import FinalLog, Rest

_FIELDS = ("st", "ep", "seq", "at", "lu", "tok", "stop", "user", "final", "ftok", "born", "drained")


async def take_baseline(fleet: Fleet) -> dict[str, dict[str, float]]:
    """Return what each process holds before the load comes."""
    await fleet.sample()
    return {member.name: _held(member.values) for member in fleet.members.values()}


def _held(values: dict[str, float]) -> dict[str, float]:
    names = ("process_open_fds", "process_resident_memory_bytes", "tailrace_gateway_viewers", "tailrace_gateway_tails")
    return {name: values[name] for name in (*names, "tailrace_slots_used") if name in values}


async def settle(fleet: Fleet, within_s: float) -> None:
    """Wait until no message is in flight, no job waits and nobody holds anything, or the time is over.

    A job that a killed worker had taken is there for others when its mark is void, which takes a while.
    """
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        async with fleet.stores.client() as client:
            busy = await unfinished(client)
        await fleet.sample()
        held = [
            member.values.get(name, 0)
            for member in fleet.members.values()
            for name in ("tailrace_slots_used", "tailrace_gateway_viewers", "tailrace_gateway_tails")
        ]
        if not busy and not any(held) and not await jobs(fleet):
            return
        await asyncio.sleep(0.5)


async def jobs(fleet: Fleet) -> int:
    """Return how many jobs wait, those that somebody has taken included."""
    async with redis.asyncio.Redis(port=fleet.stores.queue.port) as queue:
        return int(await queue.zcard(QUEUE_NAME) + await queue.zcard(CANCELS))


async def unfinished(client: redis.asyncio.Redis) -> list[str]:
    """Return the keys of the records of messages that are in flight."""
    keys = [key async for key in client.scan_iter(META_PATTERN, count=1000)]
    states: list[Any] = [await client.hget(key, "st") for key in keys]  # type: ignore[misc]  # its stub has both kinds
    return [key for key, state in zip(keys, states, strict=True) if state in ("queued", "running")]


async def dump(fleet: Fleet, out: Path, baseline: dict[str, dict[str, float]]) -> None:
    """Write `logs.jsonl` and `rest.json`."""
    async with fleet.stores.client() as client:
        keys = [key async for key in client.scan_iter(META_PATTERN, count=1000)]
        with (out / "logs.jsonl").open("wb") as file:
            for key in sorted(keys):
                file.write(msgspec.json.encode(await _final_log(client, ref_of_meta_key(key))) + b"\n")
        pointers = [key async for key in client.scan_iter("tr:*::active", count=1000)]
        pointers += [key async for key in client.scan_iter("tr:*::live", count=1000)]
        # A message that has ended is looked at once more, in case a failover loses its end: that is no leftover.
        due = await client.zrangebyscore(DUE, "-inf", (time.time() - 5) * 1000)
        rest = Rest(active=sorted(pointers), due=due, baseline=baseline)
    rest.queued = await jobs(fleet)
    await fleet.sample()
    rest.processes = {member.name: _held(member.values) for member in fleet.members.values()}
    (out / "rest.json").write_bytes(msgspec.json.encode(rest))


async def _final_log(client: redis.asyncio.Redis, ref: MessageRef) -> FinalLog:
    keys = log_keys(ref)
    rows: Any = await client.xrange(keys.stream)
    values: list[Any] = await client.hmget(keys.meta, list(_FIELDS))  # type: ignore[misc]
    meta = {name: value for name, value in zip(_FIELDS, values, strict=True) if value is not None}
    return FinalLog(ref.tenant, ref.chat_id, ref.message_id, [(ident, row["d"]) for ident, row in rows], meta)
