"""What SIGTERM does, in its order: unready and serving on, then every stream broken at a time of its own, then the end.

(That a process ends so is tested in `test_gateway_process`; here nobody waits for windows that are minutes long.)
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from tests.integration.conftest import MakeGateway
from tests.support.gateway import LiveGateway, breaks, started
from tests.support.wait import wait_until

STREAMS = 40
WINDOW_S = 600.0
STREAM = "/chats/c/messages/m/stream"


@asynccontextmanager
async def watching(client: httpx.AsyncClient, streams: int) -> AsyncIterator[None]:
    """Hold so many streams of one message open."""
    async with AsyncExitStack() as stack:
        opening = (stack.enter_async_context(client.stream("GET", STREAM)) for _ in range(streams))
        assert {response.status_code for response in await asyncio.gather(*opening)} == {200}
        yield


def ask_to_end(gateway: LiveGateway) -> None:
    """Do what the server does on SIGTERM."""
    gateway.server.handle_exit(signal.SIGTERM, None)


async def test_streams_are_broken_one_by_one_over_the_window_and_later_ones_within_it(
    make_gateway: MakeGateway,
) -> None:
    async with make_gateway(drain_s=WINDOW_S, rotate_s=100 * WINDOW_S) as gateway, gateway.client() as client:
        await started(client)
        async with watching(client, STREAMS):
            assert breaks(gateway)[0] > WINDOW_S
            ask_to_end(gateway)
            await wait_until(lambda: breaks(gateway)[-1] <= WINDOW_S, what="the window told to every stream")
            # Not all at once, at neither end: those who come back shall not be a crowd.
            early, late = breaks(gateway)[4], breaks(gateway)[-5]
            assert 0 < early < WINDOW_S / 2 < late
            async with watching(client, 1):
                assert len(breaks(gateway)) == STREAMS + 1
                assert breaks(gateway)[-1] <= WINDOW_S
            assert not gateway.server.should_exit
        # With the last stream gone there is nothing to wait for.
        await wait_until(lambda: gateway.server.should_exit, what="the server told to exit")


async def test_until_balancers_have_noticed_all_is_served_as_before(make_gateway: MakeGateway) -> None:
    async with make_gateway(drain_delay_s=WINDOW_S, drain_s=0.1) as gateway, gateway.client() as client:
        await started(client)
        async with watching(client, 1):
            ask_to_end(gateway)

            async def unready() -> bool:
                return (await client.get("/readyz")).status_code == 503

            await wait_until(unready)
            assert (await client.get("/healthz")).status_code == 200
            await started(client, "d")
            async with watching(client, 1):
                assert breaks(gateway)[0] > 1.0
                assert not gateway.server.should_exit
        ask_to_end(gateway)  # once more: it waits no longer
        await wait_until(lambda: gateway.server.should_exit)
