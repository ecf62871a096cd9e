"""Measures what a late viewer of a long running answer costs, with segments and without, in turns.

    python -m tests.bench.snapshots [TOKENS [ROUNDS]]

An answer of so many tokens (32,000), each an entry of its own, is being written; a viewer asks for its snapshot on a
new connection. Counted: from the request to the last byte of the event, the gateway's CPU, and what Redis sends.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import statistics
import sys
import time
from dataclasses import dataclass

from shared import events as ev
from shared.events import encode_event
from shared.link import Link
from shared.log.log import Log
from shared.log.types import Ownership, Retention
from shared.redis import resolver
from tests.bench import own, services
from tests.bench.counts import RedisCounts
from tests.bench.report import Goal
from tests.bench.rig import Rig, cpu_s, rig
from worker.ledger import Ledger

TOKENS = 32_000
WITH, WITHOUT = 0, 1
"""Streams: the same answer, the first with segments."""


@dataclass(frozen=True)
class Seen:
    """One snapshot."""

    ms: float
    cpu_ms: float
    event: bytes


def words(count: int) -> list[str]:
    """Return so many tokens, the same each time; as long as real ones are."""
    dice = random.Random(7)
    return ["".join(dice.choices("abcdefghij", k=dice.randint(1, 7))) + " " for _ in range(count)]


async def write(log: Log, index: int, tokens: int) -> Ownership:
    """Own stream `index` and write an answer of single tokens."""
    owner = await own.own(log, index)
    payloads = [encode_event(ev.TextStart("t")), *(encode_event(ev.TextDelta("t", word)) for word in words(tokens))]
    for at in range(0, len(payloads), 500):
        first = owner.marker_seq + 1 + at
        await log.append(owner, first, payloads[at : at + 500], lease_ms=own.LEASE_MS, renew_ttl=False, deadline_s=5)
    return owner


async def store_segments(log: Log, owner: Ownership, ledger: Ledger) -> None:
    """Store the answer's segments as its worker would."""
    for number, segment in enumerate(ledger.segments):
        reply = await log.checkpoint(owner, number, segment)
        assert reply.status == "ok", reply


async def write_both(it: Rig, tokens: int) -> dict[str, float]:
    """Write the answer with segments and without; return what the segments cost Redis, per token."""
    link, text = Link(resolver(it.redis_url), name="bench"), words(tokens)
    await link.open(wait_s=5)
    try:
        log = Log(link, Retention(), deadline_s=30)
        await write(log, WITHOUT, tokens)
        owner = await write(log, WITH, tokens)
        entries = await log.read_all(owner.ref)
        ledger = Ledger(entries, owner.epoch, b"", max_entry=65_536, max_bytes=1 << 30, max_entries=1 << 30)
        ledger.cut(len(entries))
        await log.checkpoint(owner, 0, ledger.segments[0])  # so that Redis knows the script
        counts = RedisCounts(it.redis_port)
        await store_segments(log, owner, ledger)
        found = counts.per(tokens, "segments")
        found["segments.redis_bytes_in_per_text_byte"] = found["segments.redis_bytes_in"] * tokens / len("".join(text))
        return found
    finally:
        await link.close()


def snapshot(it: Rig, pid: int, index: int) -> Seen:
    """Ask for the snapshot of one of the two; its event without the id, which differs."""
    connection = http.client.HTTPConnection("127.0.0.1", it.port, timeout=20)
    name, _, value = services.AUTH.partition(": ")
    try:
        before, began = cpu_s(pid), time.perf_counter()
        connection.request("GET", own.STREAM_PATH % index + "?from=snapshot", headers={name: value})
        answer = connection.getresponse()
        while not (row := answer.readline()).startswith(b"data: "):
            assert row, answer.status
        took = time.perf_counter() - began
        return Seen(1000 * took, 1000 * (cpu_s(pid) - before), row)
    finally:
        connection.close()


def compare(tokens: int = TOKENS, rounds: int = 15) -> dict[str, float]:
    """Return medians of snapshots with segments and without."""
    with rig() as it:
        it.redis()
        asyncio.run(write_both(it, tokens))
        pid = services.gateway(it)
        seen: dict[int, list[Seen]] = {WITH: [], WITHOUT: []}
        for number in range(rounds + 1):
            for index, mine in seen.items():
                got = snapshot(it, pid, index)
                mine += [got] if number else []  # the first round loads code
                time.sleep(0.05)
        texts = {got.event[got.event.index(b'"parts"') :] for mine in seen.values() for got in mine}
        assert len(texts) == 1, "the snapshots differ"
        found = {}
        for index, name in ((WITH, "with"), (WITHOUT, "without")):
            found[f"{name}_ms"] = statistics.median(got.ms for got in seen[index])
            found[f"{name}_worst_ms"] = max(got.ms for got in seen[index])
            found[f"{name}_cpu_ms"] = statistics.median(got.cpu_ms for got in seen[index])
        return found


def counted(tokens: int = 8_000) -> dict[str, float]:
    """Return what segments cost a token, and a snapshot with them a token, in operations of Redis."""
    with rig() as it:
        it.redis()
        found = asyncio.run(write_both(it, tokens))
        pid = services.gateway(it)
        snapshot(it, pid, WITH)
        counts = RedisCounts(it.redis_port)
        for _ in range(10):
            snapshot(it, pid, WITH)
        read = counts.per(10 * tokens, "snapshot")
        return {**found, **read}


def goals(found: dict[str, float]) -> list[Goal]:
    """Return the goals that these medians can tell of."""
    return [
        Goal(f"snapshot of a running answer of {TOKENS} tokens: ms (p50)", 20, found["with_ms"]),
        Goal("the same against folding the whole log", 0.25, found["with_ms"] / found["without_ms"]),
    ]


if __name__ == "__main__":
    numbers = [int(arg) for arg in sys.argv[1:]]
    for name, value in compare(*numbers).items():
        print(f"{name:20} {value:8.2f}")
