"""Resumed behind any event by a gateway that has nothing of the stream in memory, the rest is the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.live.hub import Hub, HubSettings
from gateway.live.viewer import Viewer
from gateway.protocols import WIRES
from gateway.protocols.base import Wire, until_last
from shared.cursor import Cursor
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Entry
from shared.redis import resolver
from tests.protocols.rendering import LOGS, read_log, render
from tests.support.wait import wait_until


class Sink:
    """Keeps what is written."""

    direct = None
    gone = False
    backlog = 0
    taken = 0

    def __init__(self) -> None:
        self.started = False
        self.data = b""

    async def send(self, data: bytes) -> None:
        self.started = True
        self.data += data

    def abort(self) -> None:
        raise AssertionError("a socket that takes everything is not given up")


@pytest.fixture
async def hub(log: Log, redis_url: str) -> AsyncIterator[Hub]:
    """The live side of a gateway that has read nothing yet."""
    hub = Hub(log, resolver(redis_url), HubSettings())
    await hub.open()
    yield hub
    await hub.close()


async def load(link: Link, ref: MessageRef, entries: list[Entry]) -> None:
    """Put a log into Redis as it is, and its record."""
    keys, last = log_keys(ref), entries[-1]
    for entry in entries:
        link.post("XADD", keys.stream, str(entry.cursor), "d", entry.raw)
    state = "done" if last.is_end else "running"
    await link.call("HSET", keys.meta, "st", state, "ep", last.cursor.epoch, "seq", last.cursor.seq, "lu", 2**52)


async def resumed(hub: Hub, ref: MessageRef, wire: Wire, *, cursor: Cursor | None = None, skip: int = 0) -> bytes:
    """Return what a viewer gets that begins there, until its stream is over or nothing more is there."""
    sink = Sink()
    async with hub.tail(ref) as tail:
        viewer = Viewer(
            tail, hub.pages, wire, sink, cursor=cursor, skip=skip, buffer_bytes=1 << 20, break_at=float("inf"),
            restoring_s=1.0,
        )  # fmt: skip
        running = asyncio.create_task(viewer.run())
        await wait_until(lambda: viewer.live or running.done(), what="the viewer did not catch up")
        viewer.stop("left")
        await running
    return sink.data


@pytest.mark.parametrize("name", LOGS)
async def test_a_cold_viewer_goes_on_behind_any_event(name: str, hub: Hub, link: Link, ref: MessageRef) -> None:
    entries = read_log(name)
    await load(link, ref, entries)
    for wire in WIRES.values():
        whole = render(wire, entries)
        begins = range(len(whole) + 1)
        if wire.stateless:
            places = [None, *(entry.cursor for entry in entries)]
            got = await asyncio.gather(*(resumed(hub, ref, wire, cursor=places[at]) for at in begins))
        else:
            got = await asyncio.gather(*(resumed(hub, ref, wire, skip=at) for at in begins))
        assert got == [b"".join(until_last(whole[at:])[0]) for at in begins], wire.name
