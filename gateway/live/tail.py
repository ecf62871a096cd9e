"""Owns the tail of one live message: the entries as they come, checked, encoded once a wire, fanned out.

A published batch is a hint. It is taken only if the id before it is exactly the tail's position; anything
else makes the tail read the log from its own position, which must come back as the first entry. So a lost,
late, doubled or foreign batch can never reach a viewer.

Tasks: `heal` and `check` run as tasks of the hub, at most one of each per tail.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from gateway.live.transport import chunk
from gateway.protocols.base import Encoder, Over, Wire, until_last
from shared.cursor import Cursor
from shared.errors import TailraceError
from shared.ids import MessageRef
from shared.log.keys import log_keys
from shared.log.log import PAGE, Log
from shared.log.types import Entry, Meta

if TYPE_CHECKING:
    from gateway.live.viewer import Viewer

log = logging.getLogger(__name__)

RING_ENTRIES = 256
"""Latest entries a tail keeps, so that a viewer that has just caught up need not read the log again."""


class Batch:
    """Some consecutive entries on one wire, as every live viewer of the wire gets them.

    `over`: how the wire's stream ends with them, if it does; then nothing of later batches is for the same viewers.
    """

    __slots__ = ("_chunk", "count", "frames", "last", "over")

    def __init__(self, frames: bytes, count: int, last: Cursor, over: Over | None) -> None:
        """`frames`: `count` events, the encoding of the entries up to `last`."""
        self.frames = frames
        self.count = count
        self.last = last
        self.over = over
        self._chunk: bytes | None = None

    @classmethod
    def of(cls, blocks: Sequence[bytes], last: Entry) -> Batch:
        """Return the encoding of the entries up to `last` as a batch."""
        kept, over = until_last(blocks)
        frames = kept[0] if len(kept) == 1 else b"".join(kept)
        return cls(frames, len(kept), last.cursor, over or ("ended" if last.is_end else None))

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Return batches that follow on each other as one, up to the first with which the stream is over."""
        if len(batches) == 1:
            return batches[0]
        end = next((index for index, batch in enumerate(batches) if batch.over), len(batches) - 1)
        kept, last = batches[: end + 1], batches[end]
        frames = b"".join([batch.frames for batch in kept])
        return cls(frames, sum(batch.count for batch in kept), last.last, last.over)

    @property
    def chunk(self) -> bytes:
        """The frames as an HTTP chunk, made once for all viewers."""
        if self._chunk is None:
            self._chunk = chunk(self.frames)
        return self._chunk


class Channel:
    """The live end of one wire of one message: its encoder, standing at the tail's position, and its viewers.

    What comes within one turn of the loop is joined here, once for all viewers, and handed out at the turn's end: to
    each viewer that is one write, however many events there were, and no work for an event of its own.
    """

    __slots__ = ("_pending", "_schedule", "encoder", "viewers", "wire")

    def __init__(self, wire: Wire, encoder: Encoder, schedule: Callable[[Channel], None]) -> None:
        """`schedule` has `flush` called at the end of this turn of the loop."""
        self.wire = wire
        self.encoder = encoder
        self.viewers: set[Viewer] = set()
        self._schedule = schedule
        self._pending: list[Batch] = []

    def feed(self, entries: Sequence[Entry]) -> None:
        """Take entries that follow on those before."""
        encode = self.encoder.encode
        if len(entries) == 1:
            blocks: Sequence[bytes] = encode(entries[0])
        else:
            blocks = [block for entry in entries for block in encode(entry)]
        if not self._pending:
            self._schedule(self)
        self._pending.append(Batch.of(blocks, entries[-1]))

    def flush(self, now: float) -> None:
        """Hand out what has come, joined."""
        if not self._pending:
            return
        batch, self._pending = Batch.joined(self._pending), []
        for viewer in tuple(self.viewers):
            try:
                viewer.take(batch, now)
            except Exception:  # one viewer's broken connection must not cost another's bytes
                log.exception("write to a viewer failed")
                viewer.stop("broken")


class Tail:
    """Follows one message for all of a gateway's viewers. Made, opened and closed by the hub.

    Ten thousand idle ones shall be cheap: slots, and nothing made before it is needed.
    """

    __slots__ = (
        *(
            "_channels",
            "_early",
            "_heal_again",
            "_healing",
            "_log",
            "_loop",
            "_mark",
            "_opening",
            "_ring",
            "_schedule",
            "_spawn",
            "_subscribing",
        ),
        *("borrowers", "channel_name", "checking", "ended", "heard_at", "lost", "position", "ref", "viewers"),
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
        self.position: Cursor | None = None
        self._mark = b""  # the position as Redis writes it, where that is known without work: saves parsing it
        self.ended = False
        self.lost = False
        self.borrowers = 0
        self._loop = asyncio.get_running_loop()
        self._subscribing: asyncio.Future[None] | None = self._loop.create_future()
        self._opening: asyncio.Future[None] | None = self._loop.create_future()
        self.viewers: set[Viewer] = set()
        self.heard_at = self._loop.time()
        self.checking = False
        self._log = store
        self._spawn = spawn
        self._schedule = schedule
        self._ring: deque[Entry] | None = None
        self._early: list[bytes] = []
        self._channels: dict[str, Channel] = {}
        self._healing = False
        self._heal_again = False

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
            self.position, self.ended = meta.cursor, meta.terminal
            early, self._early = self._early, []
            for payload in early:
                self.hear(payload)
        if self._opening is not None:
            self._opening.set_result(None)
            self._opening = None

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

    # -- what the link says

    def on_subscribed(self) -> None:
        """The subscription stands (again): whatever was published before it may be missing."""
        if self._subscribing is not None and not self._subscribing.done():
            self._subscribing.set_result(None)
        self._subscribing = None
        if self.position is not None:
            self.heal()

    def hear(self, payload: bytes) -> None:
        """Take one published message: a batch, a heartbeat, or the word that the message was deleted."""
        self.heard_at = self._loop.time()
        if self.position is None:
            if len(self._early) == RING_ENTRIES:
                del self._early[0]  # what is dropped here is read from the log
            self._early.append(payload)
            return
        head, *lines = payload.split(b"\n")
        if not lines:
            self._heartbeat(head)
            return
        prev, epoch, first = head.split(b" ")
        at, seq = int(epoch), int(first)
        if prev == self._mark or Cursor.from_redis(prev) == self.position:
            if len(lines) == 1:
                self._take([Entry(Cursor(at, seq), lines[0])])
                self._mark = epoch + b"-" + first
            else:
                self._take([Entry(Cursor(at, seq + n), raw) for n, raw in enumerate(lines)])
        elif Cursor(at, seq + len(lines) - 1) > self.position:
            self.heal()

    def _heartbeat(self, head: bytes) -> None:
        if head == b"deleted":
            self.lost = True  # for good: nobody restores it
            for viewer in tuple(self.viewers):
                viewer.stop("broken")
        elif self.position is not None and Cursor.from_redis(head) > self.position:
            self.heal()

    def _take(self, entries: list[Entry]) -> None:
        if not entries:
            return
        last = entries[-1]
        self.position, self._mark = last.cursor, b""
        if self._ring is None:
            self._ring = deque(maxlen=RING_ENTRIES)
        self._ring.extend(entries)
        if last.is_end:
            self.ended = True
        for channel in self._channels.values():
            channel.feed(entries)

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
        self.position, self.ended, self._mark = meta.cursor, meta.terminal, b""
        self._ring = None
        self._channels.clear()
        for viewer in tuple(self.viewers):
            viewer.reattach()

    async def _revive(self) -> None:
        """Look whether a vanished log was restored."""
        meta = await self._log.meta(self.ref)
        if meta is not None:
            self.lost, self.position, self.ended, self._mark = False, meta.cursor, meta.terminal, b""
            self._ring = None

    def _give_up(self) -> None:
        self.lost = True
        self._channels.clear()
        for viewer in tuple(self.viewers):
            viewer.reattach()

    def compare(self, meta: Meta | None) -> None:
        """Hold the position against a record just read (a silent link may have dropped the last entry)."""
        if meta is None:
            self._give_up()
        elif meta.cursor != self.position:
            self.heal()

    # -- viewers

    def join(self, viewer: Viewer, page: Sequence[Entry]) -> bool:
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
        channel = self._channels.get(viewer.wire.name)
        if channel is not None:
            channel.flush(self._loop.time())  # a part of `missing`, for those who are here already
        if missing:
            blocks = [block for entry in missing for block in viewer.encoder.encode(entry)]
            viewer.take(Batch.of(blocks, missing[-1]), self._loop.time())
            if not viewer.live:
                return False  # more than its buffer holds: it reads on from the log
        if channel is None:
            # the viewer's own encoder stands at the position now: it becomes everybody's
            channel = self._channels[viewer.wire.name] = Channel(viewer.wire, viewer.encoder, self._schedule)
        channel.viewers.add(viewer)
        return True

    def _take_over(self, page: Sequence[Entry]) -> None:
        for index, entry in enumerate(page):
            if entry.cursor == self.position:
                self._take(list(page[index + 1 :]))
                return
        self.heal()

    def _since(self, cursor: Cursor) -> list[Entry] | None:
        """Return the entries after `cursor` up to the position, or None if the ring does not reach back."""
        if cursor == self.position:
            return []
        ring = self._ring
        if ring is None:
            return None
        index = cursor.seq - ring[0].cursor.seq  # seq has no holes
        if not 0 <= index < len(ring) or ring[index].cursor != cursor:
            return None
        return list(islice(ring, index + 1, None))

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer's live place (it is gone, or reads the log for itself)."""
        channel = self._channels.get(viewer.wire.name)
        if channel is not None:
            channel.viewers.discard(viewer)
            if not channel.viewers:
                del self._channels[viewer.wire.name]
