"""What all requests of one process share: the journal, the counters, the fault switch, the records and who is live.

Tasks: background responses run in the group that `running` owns; leaving it stops every stream and waits for them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from deploy.scripted_model.faults import FaultSwitch
from deploy.scripted_model.journal import Journal
from deploy.scripted_model.records import Records
from deploy.scripted_model.refusal import Refused
from deploy.scripted_model.settings import MAX_KEYS, MAX_LIVE_STREAMS, Settings
from deploy.scripted_model.watch import Watch


class KeyCounter:
    """Counts per key; the keys unused for longest are forgotten beyond the bound."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()

    def next(self, key: str) -> int:
        """Return the how-manieth call this is, from 1."""
        self._counts[key] = count = self._counts.get(key, 0) + 1
        self._counts.move_to_end(key)
        if len(self._counts) > MAX_KEYS:
            self._counts.popitem(last=False)
        return count

    def clear(self) -> None:
        """Forget all keys."""
        self._counts.clear()


class World:
    """The state of one scripted model."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.journal = Journal(settings.log_file)
        self.switch = FaultSwitch()
        self.calls = KeyCounter()  # calls per key, for `times`
        self.streams = KeyCounter()  # calls per key that were not refused, for `fault_times`
        self.records = Records()
        self._live: set[Watch] = set()
        self._group: asyncio.TaskGroup | None = None

    @property
    def live(self) -> int:
        """How many streams are open now."""
        return len(self._live)

    @property
    def group(self) -> asyncio.TaskGroup:
        """The owner of background responses."""
        if self._group is None:
            raise RuntimeError("the scripted model is not running")
        return self._group

    @contextmanager
    def living(self, watch: Watch) -> Iterator[None]:
        """Count `watch` as a live stream; raises `Refused` if there are too many."""
        if len(self._live) >= MAX_LIVE_STREAMS:
            raise Refused(429, f"The scripted model has {MAX_LIVE_STREAMS} live streams already.", retry_after=1)
        self._live.add(watch)
        try:
            yield
        finally:
            self._live.discard(watch)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Own the background responses for as long as the context lasts."""
        try:
            async with asyncio.TaskGroup() as self._group:
                yield
                self.stop()
        finally:
            self.journal.close()

    def stop(self) -> None:
        """End all streams, so that the server need not wait for their readers."""
        for watch in list(self._live):
            watch.leave("server_stop")

    def reset(self) -> None:
        """Forget what earlier calls left behind; live streams go on."""
        self.journal.clear()
        self.calls.clear()
        self.streams.clear()
        self.records.clear()
        self.switch = FaultSwitch()
