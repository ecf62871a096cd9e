"""A hub over the tests' Redis, and viewers whose socket is a recording."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.live.follower import Outcome
from gateway.live.hub import Hub, HubSettings
from gateway.live.viewer import Viewer
from gateway.protocols.base import Wire
from gateway.protocols.native import NATIVE
from shared.cursor import Cursor
from shared.ids import MessageRef
from shared.log.log import Log
from shared.log.types import Meta
from shared.redis import resolver
from tests.support.writer import LogWriter

QUICK = HubSettings(lease_s=0.6, tick_s=0.05, heartbeat_s=0.2, send_timeout_s=0.5, redispatch_every_s=0.1)


class Recording:
    """A viewer's socket: keeps whole writes, and takes none while `stuck`."""

    gone = False
    direct = None
    backlog = 0
    taken = 0

    def __init__(self) -> None:
        self.started = False
        self.writes: list[bytes] = []
        self.aborted = False
        self.changed = asyncio.Event()
        self.open_gate = asyncio.Event()
        self.open_gate.set()

    async def send(self, data: bytes) -> None:
        self.started = True
        await self.open_gate.wait()
        self.writes.append(data)
        self.changed.set()

    def abort(self) -> None:
        self.aborted = True
        self.open_gate.set()

    @property
    def text(self) -> str:
        """Everything written, without the connection's own lines."""
        lines = b"".join(self.writes).decode().split("\n")
        return "\n".join(line for line in lines if not line.startswith(":"))

    @property
    def blocks(self) -> list[str]:
        return [block for block in self.text.split("\n\n") if block]

    async def until(self, done: Callable[[], bool], deadline_s: float = 10.0) -> None:
        """Wait until `done()` holds, looking after each write."""
        async with asyncio.timeout(deadline_s):
            while not done():
                self.changed.clear()
                await self.changed.wait()


class Watching:
    """A viewer at work: what it wrote and how it came out."""

    def __init__(self, viewer: Viewer, sink: Recording, task: asyncio.Task[Outcome]) -> None:
        self.viewer = viewer
        self.sink = sink
        self.task = task

    async def outcome(self, deadline_s: float = 10.0) -> Outcome:
        async with asyncio.timeout(deadline_s):
            return await self.task


class Gallery:
    """Opens viewers on a hub."""

    def __init__(self, hub: Hub, stack: AsyncExitStack) -> None:
        self.hub = hub
        self._stack = stack

    async def watch(
        self,
        ref: MessageRef,
        *,
        wire: Wire = NATIVE,
        cursor: Cursor | None = None,
        sink: Recording | None = None,
        buffer_bytes: int = 65536,
    ) -> Watching:
        tail = await self._stack.enter_async_context(self.hub.tail(ref))
        sink = sink or Recording()
        viewer = Viewer(
            tail, self.hub.pages, wire, sink, cursor=cursor, buffer_bytes=buffer_bytes,
            break_at=float("inf"), restoring_s=5.0,
        )  # fmt: skip
        self._stack.enter_context(self.hub.watching(viewer))
        task = asyncio.create_task(viewer.run())
        self._stack.callback(task.cancel)
        return Watching(viewer, sink, task)


@pytest.fixture
def dispatched() -> list[MessageRef]:
    """The messages for which the hub asked for a worker."""
    return []


@pytest.fixture
async def gallery(log: Log, redis_url: str, dispatched: list[MessageRef]) -> AsyncIterator[Gallery]:
    async def redispatch(meta: Meta) -> None:
        dispatched.append(meta.ref)

    hub = Hub(log, resolver(redis_url), QUICK, redispatch=redispatch)
    await hub.open()
    async with AsyncExitStack() as stack:
        yield Gallery(hub, stack)
    await hub.close()


@pytest.fixture
def writer(log: Log, ref: MessageRef) -> LogWriter:
    return LogWriter(log, ref)
