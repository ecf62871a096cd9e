"""Responses that can be fetched again by id: finished ones, and background ones while they are being written."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from deploy.scripted_model.response_frames import ResponseFrames
from deploy.scripted_model.settings import MAX_HANG_S, MAX_RECORD_BYTES, MAX_RESPONSES
from deploy.scripted_model.watch import Watch


class Record:
    """One response. A background one keeps its events, the index of each being its sequence number.

    It is the stage its own playback writes to, and wakes its viewers at every write.
    """

    def __init__(self, frames: ResponseFrames, watch: Watch) -> None:
        self.frames = frames
        self.watch = watch
        self.events: list[bytes] = []
        self.ended = False
        self._bytes = 0
        self._viewers: set[Watch] = set()

    async def write(self, frames: bytes) -> None:
        """Append the events in `frames`."""
        if frames:
            self._bytes += len(frames)
            self.events += [event + b"\n\n" for event in frames.split(b"\n\n")[:-1]]
            self._nudge()

    async def pause_until(self, due: float) -> bool:
        """Wait until `due`; return False when the response was cancelled, is too large, or the server stops."""
        return self._bytes <= MAX_RECORD_BYTES and await self.watch.wait_until(due)

    async def hang(self) -> None:
        """Write nothing until the response is cancelled."""
        await self.watch.wait_until(asyncio.get_running_loop().time() + MAX_HANG_S)

    def end(self) -> None:
        """Say that no event follows."""
        self.ended = True
        self._nudge()

    def attach(self, viewer: Watch) -> None:
        """Nudge `viewer` at every write from now on."""
        self._viewers.add(viewer)

    def detach(self, viewer: Watch) -> None:
        """Leave `viewer` alone again."""
        self._viewers.discard(viewer)

    def _nudge(self) -> None:
        for viewer in self._viewers:
            viewer.nudge()


class Records:
    """Responses by id; the oldest ended ones are dropped beyond the bound."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, Record] = OrderedDict()

    def add(self, record: Record) -> None:
        """Keep `record`."""
        self._by_id[record.frames.response_id] = record
        excess = len(self._by_id) - MAX_RESPONSES
        if excess > 0:
            ended = (name for name, kept in self._by_id.items() if kept.ended)
            for name in [name for _, name in zip(range(excess), ended, strict=False)]:
                del self._by_id[name]

    def get(self, response_id: str) -> Record | None:
        """Return the record of `response_id`, if it is still kept."""
        return self._by_id.get(response_id)

    def drop(self, response_id: str) -> None:
        """Forget one record."""
        self._by_id.pop(response_id, None)

    def clear(self) -> None:
        """Forget all records that have ended."""
        for name in [name for name, record in self._by_id.items() if record.ended]:
            del self._by_id[name]
