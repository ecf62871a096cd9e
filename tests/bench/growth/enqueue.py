"""Owns filling a queue: messages created and dispatched as a gateway does, so many at a time.

    python -m tests.bench.growth.enqueue REDIS_URL CHAT COUNT LOOK_AFTER_MS

The messages go where REDIS_URL says, their jobs into database 2 of it. Each has an appointment with the reapers, so
long from now or up to twice as long.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.events import encode_event
from shared.ids import MessageRef
from shared.jobs import GenerationRequest, encode_request
from shared.link import Link
from shared.log.log import Log
from shared.log.types import Retention
from shared.redis import resolver
from tests.bench.own import SCOPE, USER

AT_A_TIME = 200
REQUEST = encode_request(GenerationRequest("m", [{"role": "user", "content": "go"}]))


async def put(log: Log, dispatcher: Dispatcher, ref: MessageRef, look_after_ms: int) -> None:
    """Create a message, queue it and make its appointment."""
    first = encode_event(ev.Created(ref.chat_id, ref.message_id, "m", int(time.time())))
    await log.create(ref, user=USER, body_hash="h", request=REQUEST, first=first)
    await dispatcher.dispatch(ref, wake=False)
    await log.watch(ref, look_after_ms + random.randrange(look_after_ms))


async def fill(url: str, chat: str, count: int, look_after_ms: int) -> None:
    """Queue messages `<chat>0`, `<chat>1`, ..."""
    links = [Link(resolver(to), name="bench") for to in (url, url.removesuffix("/0") + "/2")]
    try:
        for link in links:
            await link.open(wait_s=5)
        log, dispatcher = Log(links[0], Retention(), deadline_s=30), Dispatcher(links[1], deadline_s=30)
        refs = [MessageRef(SCOPE, f"{chat}{number}", "m") for number in range(count)]
        for at in range(0, count, AT_A_TIME):
            await asyncio.gather(*(put(log, dispatcher, ref, look_after_ms) for ref in refs[at : at + AT_A_TIME]))
    finally:
        for link in links:
            await link.close()


if __name__ == "__main__":
    asyncio.run(fill(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
