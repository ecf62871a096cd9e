"""The queue's poller ends when it is told to, in whatever moment of a poll that comes."""

from __future__ import annotations

import asyncio
from typing import cast

from shared.dispatch import Dispatcher
from shared.ids import MessageRef
from shared.link import Link
from worker.dispatch import Queue
from worker.intake import Intake
from worker.supervisor import Supervisor


class _Taker:
    """An intake that finds nothing to do, and a supervisor with room for it."""

    free = 10

    async def take(self, ref: MessageRef) -> None:
        return None

    def reserve(self) -> bool:
        return True

    def unreserve(self) -> None:
        pass


async def test_a_cancellation_in_the_middle_of_a_poll_is_heeded(redis_url: str, link: Link) -> None:
    dispatcher, taker = Dispatcher(link), _Taker()
    for turns in range(40):
        for number in range(3):
            await dispatcher.dispatch(MessageRef("acme", "chat", f"message-{number}"))
        queue = Queue(redis_url, cast(Intake, taker), cast(Supervisor, taker), dispatcher, poll_s=60)
        polling = asyncio.create_task(queue.run())
        for _ in range(turns):  # into a poll, a little further each time
            await asyncio.sleep(0)
        polling.cancel()
        done, _ = await asyncio.wait({polling}, timeout=5)
        assert done, f"still polling, cancelled after {turns} turns of the loop"
