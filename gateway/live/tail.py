"""Owns the tail of one live message: the entries as they come, checked, encoded once a wire, fanned out.

A published batch is a hint. It is taken only if the id before it is exactly the tail's position; anything
else makes the tail read the log from its own position, which must come back as the first entry. So a lost,
late, doubled or foreign batch can never reach a viewer.

Tasks: `open` and `_heal` run as tasks of the hub, at most one of each per tail; `gateway.live.silence` calls `compare`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from gateway.live.batch import Batch
from gateway.live.channel import Channel
from gateway.live.follower import Follower
from gateway.live.ring import RING_ENTRIES, Ring
from gateway.protocols.base import Wire
from shared.cursor import Cursor
from shared.errors import TailraceError
from shared.ids import MessageRef
from shared.log.keys import log_keys
from shared.log.log import PAGE, Log
from shared.log.types import END_PREFIX, Entry, Meta

_NEWLINE = ord("\n")
"""As a number: looking for bytes in bytes, Python 3.11 raises an error first and throws it away, six times the cost."""


class Tail:
    """Follows one message for all of a gateway's viewers. Made, opened and closed by the hub.

    Ten thousand idle ones shall be cheap: slots, and nothing made before it is needed.
    """

    __slots__ = (
        *(
            "_at",
            "_channels",
            "_early",
            "_heal_again",
            "_healing",
            "_log",
            "_loop",
            "_opening",
            "_ring",
            "_schedule",
            "_spawn",
            "_subscribing",
        ),
        *("borrowers", "channel_name", "checking", "ended", "heard", "heard_at", "lost", "patience", "ref", "viewers"),
    )

    def __init__(
        self,
        ref: MessageRef,
        store: Log,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        schedule: Callable[[Channel], None],
    ) -> None:
        self.ref = ref
        self.channel_name = log_keys(ref).stream
        self._at = b""
        self.ended = False
        self.lost = False
        self.borrowers = 0
        self._loop = asyncio.get_running_loop()
        self._subscribing: asyncio.Future[None] | None = self._loop.create_future()
        self._opening: asyncio.Future[None] | None = self._loop.create_future()
        self.viewers: set[Follower] = set()
        self.heard = False
        self.heard_at = self._loop.time()
        self.checking = False
        self.patience = 1
        """How many times longer than usual silence is borne: a message that waits for a worker has nothing to say."""
        self._log = store
        self._spawn = spawn
        self._schedule = schedule
        self._ring: Ring | None = None
        self._early: list[bytes] = []
        self._channels: tuple[Channel, ...] = ()  # nearly always one, and walked for every entry
        self._healing = False
        self._heal_again = False

    @property
    def position(self) -> Cursor | None:
        """The last entry that was taken; None until the log's end is known."""
        return Cursor.from_redis(self._at) if self._at else None

    async def open(self) -> None:
        """Take the log's end as the position. The subscription must stand before, or entries fall in between."""
        if self._subscribing is not None:
            await self._subscribing
        try:
            meta = await self._first_look()
        except TailraceError:
            return  # nobody is left to wait for it
        if meta is None:
            self.lost = True
        else:
            self._stand(meta)
            early, self._early = self._early, []
            for payload in early:
                self.hear(payload)
        if self._opening is not None:
            self._opening.set_result(None)
            self._opening = None

    def close(self) -> None:
        """Have `open` wait no longer: nobody is left who would want it."""
        if self._subscribing is not None:
            self._subscribing.cancel()

    async def wait_opened(self, within_s: float) -> None:
        """Wait until the tail has its position (or is lost); raise `TimeoutError`."""
        if self._opening is not None:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._opening)

    async def _first_look(self) -> Meta | None:
        while True:
            try:
                return await self._log.meta(self.ref)
            except TailraceError:
                if not self.borrowers:
                    raise
                await asyncio.sleep(0.1)  # Redis is away; borrowers have their own deadline

    def _stand(self, meta: Meta) -> None:
        """Take the log's end, as the record tells it, as the position."""
        self._at, self.ended, self._ring = meta.cursor.id, meta.terminal, None

    # -- what the link says

    def on_subscribed(self) -> None:
        """The subscription stands (again): whatever was published before it may be missing."""
        if self._subscribing is not None and not self._subscribing.done():
            self._subscribing.set_result(None)
        self._subscribing = None
        if self._at:
            self.heal()

    def hear(self, payload: bytes) -> None:
        """Take one published message: a batch, a heartbeat, or the word that the message was deleted."""
        self.heard = True
        if not self._at:
            if len(self._early) == RING_ENTRIES:
                del self._early[0]  # what is dropped here is read from the log
            self._early.append(payload)
            return
        head, batch, body = payload.partition(b"\n")
        if not batch:
            self._heartbeat(head)
            return
        prev, _, first = head.partition(b" ")
        if prev != self._at:
            self._misfit(first, body)
        elif _NEWLINE in body:
            self._take(_entries(first, body))
        else:
            self._take_one(first, body)

    def _misfit(self, first: bytes, body: bytes) -> None:
        at = Cursor.from_redis(first)
        last = Cursor(at.epoch, at.seq + body.count(b"\n"))
        if self.position is not None and last > self.position:
            self.heal()

    def _heartbeat(self, head: bytes) -> None:
        if head == b"deleted":
            self.lost = True  # for good: nobody restores it
            for viewer in tuple(self.viewers):
                viewer.stop("broken")
        elif head != self._at and self.position is not None and Cursor.from_redis(head) > self.position:
            self.heal()

    def _take(self, entries: list[Entry]) -> None:
        if not entries:
            return
        self._at = entries[-1].id
        if self._ring is not None:
            for entry in entries:
                self._ring.add((entry.id, entry.raw))
        self.ended = self.ended or entries[-1].is_end
        for channel in self._channels:
            channel.feed(entries)

    def _take_one(self, entry_id: bytes, raw: bytes) -> None:
        """As `_take`, for what nearly every batch is; nothing is parsed that nobody asks for."""
        self._at = entry_id
        if self._ring is not None:
            self._ring.add((entry_id, raw))
        is_end = raw.startswith(END_PREFIX)
        if is_end:
            self.ended = True
        for channel in self._channels:
            channel.feed_raw(entry_id, raw, is_end)

    # -- healing from the log

    def heal(self) -> None:
        """Read from the log what the link did not bring; asked again while it runs, it looks once more."""
        if self._healing:
            self._heal_again = True
            return
        self._healing = True
        self._spawn(self._heal())

    async def _heal(self) -> None:
        try:
            while True:
                self._heal_again = False
                if self.lost:
                    await self._revive()
                position = self.position
                if position is None or self.lost:
                    return
                page = await self._log.read(self.ref, position)
                if self.position != position:
                    continue  # a batch came meanwhile
                if not page or page[0].cursor != position:
                    await self._start_over()
                    return
                self._take(page[1:])
                if len(page) < PAGE and not self._heal_again:
                    return
        except TailraceError:
            return  # Redis is away: the next subscription or check heals
        finally:
            self._healing = False

    async def _start_over(self) -> None:
        """Our position is no longer in the log: another branch won, or the log was lost. Viewers re-attach."""
        meta = await self._log.meta(self.ref)
        if meta is None:
            self._give_up()
            return
        self._stand(meta)
        self._reattach_all()

    async def _revive(self) -> None:
        """Look whether a vanished log was restored."""
        meta = await self._log.meta(self.ref)
        if meta is not None:
            self.lost = False
            self._stand(meta)

    def _give_up(self) -> None:
        self.lost = True
        self._reattach_all()

    def _reattach_all(self) -> None:
        for channel in self._channels:
            channel.clear()
        self._channels = ()
        for viewer in tuple(self.viewers):
            viewer.reattach()

    def compare(self, meta: Meta | None) -> None:
        """Hold the position against a record just read (a silent link may have dropped the last entry)."""
        if meta is None:
            self._give_up()
        elif meta.cursor != self.position:
            self.heal()

    # -- viewers

    def enter(self, viewer: Follower) -> None:
        """Take note of a viewer, which will read the log."""
        self.viewers.add(viewer)

    def keep(self) -> None:
        """Keep what comes from now on (as much of it as the ring holds) until nobody reads the log any more."""
        if self._ring is None and self._at:
            self._ring = Ring(self._at)

    def _keep_no_more(self) -> None:
        if self._ring is not None and sum(map(len, self._channels)) == len(self.viewers):
            self._ring = None  # all of them are live

    def join(self, viewer: Follower, page: Sequence[Entry]) -> bool:
        """Make `viewer` live if nothing lies between its cursor and the position; no await, so nothing can.

        `page` is what it read last: where it is ahead of the tail, the tail takes from it.
        """
        if self.lost or self.position is None or viewer.cursor is None:
            return False
        if viewer.cursor > self.position:
            self._take_over(page)
        missing = self._since(viewer.cursor)
        if missing is None:
            return False
        waiting = self._channel(viewer.wire)
        if waiting is not None:
            waiting.flush(self._loop.time())  # a part of `missing`, for those who are here already
        if missing:
            blocks = [block for entry in missing for block in viewer.encoder.encode(entry)]
            viewer.take(Batch.of(blocks, missing[-1]), self._loop.time())
            if not viewer.live:
                return False  # more than its buffer holds: it reads on from the log
        channel = self._channel(viewer.wire)  # only now: the flush may have cut off the last of its viewers
        if channel is None:
            # the viewer's own encoder stands at the position now: it becomes everybody's
            channel = Channel(viewer.wire, viewer.encoder, self._schedule, at=self._at, bound=viewer.bound)
            self._channels = (*self._channels, channel)
        channel.add(viewer)
        self._keep_no_more()
        return True

    def _channel(self, wire: Wire) -> Channel | None:
        for channel in self._channels:
            if channel.wire.name == wire.name:
                return channel
        return None

    def _take_over(self, page: Sequence[Entry]) -> None:
        for index, entry in enumerate(page):
            if entry.cursor == self.position:
                self._take(list(page[index + 1 :]))
                return
        self.heal()

    def _since(self, cursor: Cursor) -> list[Entry] | None:
        """Return the entries after `cursor` up to the position, or None if the ring does not reach back."""
        if cursor.id == self._at:
            return []
        return None if self._ring is None else self._ring.since(cursor)

    def leave(self, viewer: Follower) -> None:
        """Forget a viewer's live place: it reads the log for itself."""
        channel = self._channel(viewer.wire)
        if channel is not None and not channel.discard(viewer):
            self._channels = tuple(other for other in self._channels if other is not channel)

    def exit(self, viewer: Follower) -> None:
        """Forget a viewer."""
        self.leave(viewer)
        self.viewers.discard(viewer)
        self._keep_no_more()


def _entries(first: bytes, body: bytes) -> list[Entry]:
    at = Cursor.from_redis(first)
    return [Entry(Cursor(at.epoch, at.seq + n), raw) for n, raw in enumerate(body.split(b"\n"))]
