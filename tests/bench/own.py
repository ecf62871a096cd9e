"""Owns the messages that the event source writes in the product's log: created and claimed as a worker would.

    python -m tests.bench.own REDIS_URL COUNT FILE

Writes FILE for `produce -m append`: the digest of APPEND, then per message its keys, token, epoch and next seq. The
script is loaded, so that EVALSHA finds it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from shared import events as ev
from shared.events import encode_event
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.scripts import script
from shared.log.types import Claimed, Created, Ownership, Retention, new_token
from shared.redis import resolver

SCOPE, USER = "bench/u", "u"
"""What the API key stands for: as `gateway.access.principal` names it in every key."""
API_KEY = "bench-key-of-no-worth"
LEASE_MS = 60_000
STREAM_PATH = "/chats/c%d/messages/m/stream"


def ref_of(index: int) -> MessageRef:
    """Return the message of stream number `index`."""
    return MessageRef(SCOPE, f"c{index}", "m")


async def own(log: Log, index: int) -> Ownership:
    """Create and claim the message of stream `index`, which must be new."""
    ref = ref_of(index)
    first = encode_event(ev.Created(ref.chat_id, ref.message_id, "m", 1))
    made = await log.create(ref, user=USER, body_hash="h", request=b"{}", first=first)
    assert isinstance(made, Created), made
    marker = encode_event(ev.Attempt(1, "first", "start"))
    claim = await log.claim(
        ref, token=new_token(), lease_ms=LEASE_MS, most_attempts=3, attempts_seen=0, marker=marker, channel="bench"
    )
    assert isinstance(claim, Claimed), claim
    return claim.ownership


def line(own: Ownership) -> str:
    """Return what `produce` needs to know of one owned message."""
    keys = log_keys(own.ref).hot
    return " ".join((*keys, own.token, str(own.epoch), str(own.marker_seq + 1)))


async def own_many(url: str, count: int) -> str:
    """Own `count` messages and return the file for `produce`."""
    link = Link(resolver(url), name="bench")
    await link.open(wait_s=5)
    try:
        log = Log(link, Retention(), deadline_s=30)
        owned: list[Ownership] = []
        for start in range(0, count, 200):
            owned += await asyncio.gather(*(own(log, index) for index in range(start, min(start + 200, count))))
        digest = (await link.call("SCRIPT", "LOAD", script("append"))).decode()
        return "\n".join((digest, *map(line, owned))) + "\n"
    finally:
        await link.close()


def main() -> None:
    """Run as a command."""
    url, count, path = sys.argv[1:]
    Path(path).write_text(asyncio.run(own_many(url, int(count))))


if __name__ == "__main__":
    main()
