"""Reading an answer's body over a real socket: no room, no more wanted, broken off, against the rules, cancelled."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Sequence
from contextlib import suppress

import pytest

from shared import events as ev
from shared.jobs import GenerationRequest
from tests.support.wait import wait_until
from tests.unit.worker.conftest import Caller, Kept, said
from tests.unit.worker.raw_server import DONE, HEAD, STOP, chunk, raw_server
from worker.ledger import OutputLimit
from worker.upstreams.base import UpstreamError

HELLO = [chunk({"content": "Hel"}), chunk({"content": "lo"})]
FRAMED = [
    HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked"),
    b"%x\r\n%b\r\n" % (len(HELLO[0]), HELLO[0]),
]
"""The beginning of an answer in HTTP's chunked coding."""


class Refusing(Kept):
    """A sink that takes nothing."""

    def take(self, events: Sequence[ev.Event]) -> bool:
        raise OutputLimit


class Narrow(Kept):
    """A sink that never has room at once, and counts what it is given while it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0
        self.most = 0
        self._given = 0

    def take(self, events: Sequence[ev.Event]) -> bool:
        super().take(events)
        self._given += len(said(list(events)))
        self.most = max(self.most, self._given)
        return True

    async def room(self) -> None:
        self.waits += 1
        await asyncio.sleep(0)  # a turn of the loop, in which the server goes on sending
        self._given = 0


REQUEST = GenerationRequest("m", [{"role": "user", "content": "hi"}])


async def test_a_sink_that_takes_no_more_ends_the_call_and_is_not_asked_again(caller: Caller) -> None:
    async with raw_server([HEAD, *HELLO], hold_open=True) as server:
        with pytest.raises(OutputLimit):
            await caller.upstream(server.url)(REQUEST, caller.make_context(), Refusing())
        await wait_until(lambda: server.closed_by_client == 1, deadline_s=2)
        assert len(server.requests) == 1


async def test_a_sink_without_room_is_given_one_piece_at_most(caller: Caller) -> None:
    sink, word, words = Narrow(), "x" * 4_000, 1_000
    async with raw_server([HEAD, *[chunk({"content": word})] * words, STOP, DONE]) as server:
        await caller.upstream(server.url)(REQUEST, caller.make_context(), sink)
    assert said(sink.events) == word * words
    assert isinstance(sink.events[-1], ev.Finish)
    assert sink.most <= 262_144
    assert sink.waits > 1


async def test_a_body_that_breaks_in_the_middle_is_an_interruption(caller: Caller) -> None:
    async with raw_server(FRAMED) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url))
    assert caught.value.code == "upstream_interrupted"
    assert said(caller.events) == "Hel"


async def test_a_body_against_the_rules_of_http_is_an_interruption() -> None:
    # aiohttp tells nobody who reads through it; there the deadline for silence ends such an answer.
    caller = Caller(direct_reads=True)
    async with raw_server([*FRAMED, b"zz\r\nno chunk at all\r\n"], hold_open=True) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url))
    await caller.close()
    assert caught.value.code == "upstream_interrupted"
    assert said(caller.events) == "Hel"


async def test_cancelling_while_the_upstream_is_silent_closes_the_connection(caller: Caller) -> None:
    async with raw_server([HEAD, *HELLO], hold_open=True) as server:
        call = asyncio.create_task(caller.call(caller.upstream(server.url)))
        await wait_until(lambda: len(caller.events) == 2)
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()
        await wait_until(lambda: server.closed_by_client == 1, deadline_s=2)


@pytest.mark.parametrize(
    ("body", "reset"),
    [([HEAD, *HELLO, STOP, DONE], False), ([HEAD, *HELLO], True), (FRAMED, False), ([HEAD, b"data: {\n\n"], False)],
    ids=["whole", "reset", "cut", "garbage"],
)
async def test_a_body_that_is_over_keeps_nothing_of_who_took_it(caller: Caller, body: list[bytes], reset: bool) -> None:
    """Its sink leads to the log of the whole answer, which must not wait for the garbage collector."""
    sink = Kept()
    kept = weakref.ref(sink)
    gc.disable()
    try:
        async with raw_server(body, reset=reset) as server:
            with suppress(UpstreamError):
                await caller.upstream(server.url, retry_s=0)(REQUEST, caller.make_context(), sink)
        del sink
        await wait_until(lambda: kept() is None, 2, "the sink is kept")
    finally:
        gc.enable()
