"""Owns one response that delivers a log: its viewer, the tail that it has borrowed, its place under the ticker's care,
and how the body ends or is broken.

Tasks: it begins in its request's. While its viewer is live there is nothing to do in a task, so where the server can go
on without the application's call (`Connection.detach`), the call returns, and all that it held is freed. Whenever there
is something to do again (the socket did not keep up, the log was lost, the end has come, the client has left), one task
of the hub's does it and ends once there is nothing to do. The hub cancels it when it closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.types import Scope

from gateway.live.expiry import UntilExpiry
from gateway.live.follower import Outcome
from gateway.live.http_sink import HttpSink
from gateway.live.hub import Hub
from gateway.live.tail import Tail
from gateway.live.viewer import Viewer
from shared.errors import Unavailable


class Delivery:
    """Slim, because there is one for each viewer, for as long as it stays."""

    __slots__ = ("_expiry", "_hub", "_on_over", "_sink", "_tail", "_viewer")

    def __init__(
        self, hub: Hub, tail: Tail, viewer: Viewer, sink: HttpSink, scope: Scope, on_over: Callable[[], object]
    ) -> None:
        """`tail` is borrowed, and given back when it is over; `on_over` is called before, unless it has failed.

        `run` must follow.
        """
        self._hub = hub
        self._tail = tail
        self._viewer = viewer
        self._sink = sink
        self._on_over = on_over
        self._expiry = UntilExpiry(scope, viewer)

    async def run(self) -> None:
        """Deliver until it is over, or until it goes on without the caller; raise as `Viewer.advance` does."""
        self._viewer.enter()
        self._hub.viewers.add(self._viewer)
        goes_on = False
        try:
            goes_on = await self._work()
        finally:
            if not goes_on:
                self._release()

    async def _work(self) -> bool:
        """Deliver until it is over (False), or there is nothing to do and no task has to wait for more (True)."""
        viewer = self._viewer
        while (outcome := await viewer.advance()) is None:
            if self._sink.detach():
                viewer.on_rouse = self._resume
                return True
            await viewer.roused()
        viewer.leave()
        await self._close(outcome)
        self._unwatch()
        if outcome == "ended":
            await self._settle()
        self._on_over()
        return False

    def _resume(self) -> None:
        self._hub.spawn(self._work(), name="delivery").add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[bool]) -> None:
        """Not at the end of the task itself: one that is cancelled before it has begun never gets there."""
        failed = task.cancelled() or task.exception() is not None  # which the hub has logged
        if failed:
            self._sink.abort()
        if failed or not task.result():
            self._release()

    def _unwatch(self) -> None:
        self._hub.viewers.discard(self._viewer)
        self._expiry.cancel()

    def _release(self) -> None:
        """The one place where the tail is given back, called once: the viewer is neither at work nor roused again."""
        self._viewer.leave()
        self._unwatch()
        self._hub.give_back(self._tail)

    async def _close(self, outcome: Outcome) -> None:
        """End or break the body. Who takes nothing more is not waited for: it would hold what it was sent for ever."""
        sink = self._sink
        try:
            async with asyncio.timeout(self._hub.settings.send_timeout_s):
                if outcome == "ended":
                    await sink.finish()
                elif outcome == "broken":
                    await sink.send(self._expiry.last_words)
                    sink.break_off()
                    await sink.wait_closed()
        except TimeoutError:
            self._hub.slow += 1
            sink.abort()

    async def _settle(self) -> None:
        """Write down that the end was received, for wires that ask for it."""
        if not self._viewer.wire.settles:
            return
        log, ref = self._hub.log, self._tail.ref
        with suppress(Unavailable):  # then it is delivered once more, to whoever asks next
            meta = await log.meta(ref)
            # Who is shown an error hangs up at once, which looks like a lost connection.
            failed = meta is not None and meta.state == "failed"
            if failed or await self._sink.received():
                await log.tell(ref)
