"""Owns one viewer: from its cursor through the log to the live tail, out of one bounded buffer.

A viewer reads pages of the log at its own pace until nothing lies between its cursor and the tail's position,
then takes what the tail offers. If its socket does not keep up, its buffer is dropped and it reads the log
again: slowness costs the log's bandwidth, never the gateway's memory or another viewer's latency.

Tasks: none of its own. `advance` works in whoever's task it is called, until there is nothing to do; while the viewer
is live, what a turn of the loop has brought is written at its end, without a task or a coroutine (where the server is
one that we know; through ASGI's `send` otherwise). The hub's ticker looks after pings and sockets. A connection ends
cleanly only after the terminal entry (or where its wire says that its stream is over); in every other case it is
broken, because clients take a clean end for success.

`cursor` and the ordinal tell what was handed to the socket, never what still waits here: whatever makes a viewer leave
the live tail, it goes on behind them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from gateway.live.batch import Batch
from gateway.live.follower import Books, Outcome
from gateway.live.pages import FIRST_PAGE, Page, Pages
from gateway.live.sink import Sink
from gateway.live.stall import NO_STALL, look
from gateway.live.tail import Tail
from gateway.live.transport import Transport, chunk
from gateway.protocols.base import Encoder, Over, Wire
from shared.cursor import Cursor
from shared.errors import Unavailable
from shared.log.types import Entry

PAUSE_S = 0.25
"""Between two looks at a log that is away."""
STALLED_S = 5.0
"""Silence after which a client hears that we wait for the log."""


class FutureCursor(Exception):
    """The viewer asked to skip more events than the message has."""


class Viewer:
    """One connection's place in one message."""

    __slots__ = (
        *("_at", "_behind", "_line", "_loop", "_ordinal", "_over", "_page_entries"),
        *("_pages", "_pending", "_pending_bytes", "_restoring_s", "_seat", "_sending", "_sink"),
        *("_skip", "_stall", "_stop", "_tail", "_vanished_at", "_written"),
        *("bound", "break_at", "encoder", "live", "on_rouse", "wire"),
    )

    def __init__(
        self,
        tail: Tail,
        pages: Pages,
        wire: Wire,
        sink: Sink,
        *,
        cursor: Cursor | None,
        skip: int = 0,
        buffer_bytes: int,
        break_at: float,
        restoring_s: float,
    ) -> None:
        """`cursor`: last entry it has (stateless wires); `skip`: events it has (others).

        `break_at`: loop time at which the connection breaks; `restoring_s`: how long a vanished log may yet be
        restored by its owner.
        """
        self.wire = wire
        self._at = b"" if cursor is None else cursor.id
        self.encoder: Encoder = wire.make()
        self.break_at = break_at
        self._sending = False
        self._written = asyncio.get_running_loop().time()
        self._tail = tail
        self._pages = pages
        self._sink = sink
        self._skip = skip
        self._behind: Cursor | None = None
        """The last of the entries that a replay goes over in silence, until that has come to it."""
        self._page_entries = FIRST_PAGE
        self._ordinal = 0
        self.bound = buffer_bytes
        self._pending: list[Batch] = []
        self._line = b""
        self._stall = NO_STALL
        self._pending_bytes = 0
        self.live = False
        self._seat: Books | None = None
        """Of who writes for us; then `_at` and `_written` are out of date, and `_ordinal` is without its `count`."""
        self._over: Over | None = None
        self._stop: Outcome | None = None
        self.on_rouse: Callable[[], object] | None = None
        """Called, once, when there is something to do after `advance` has found nothing."""
        self._loop = asyncio.get_running_loop()
        self._restoring_s = restoring_s
        self._vanished_at: float | None = None

    @property
    def cursor(self) -> Cursor | None:
        """The last entry that was handed to the socket (or skipped on the client's word)."""
        at = self._at if self._seat is None else self._seat.at
        return Cursor.from_redis(at) if at else None

    @property
    def last_write(self) -> float:
        """When something was written last, by the loop's clock."""
        return self._written if self._seat is None else max(self._written, self._seat.written)

    # -- called by the tail and the hub; none of these may block

    def take(self, batch: Batch, now: float) -> None:
        """Take live bytes: the encoding of everything between our cursor and the batch's last entry."""
        if self._over:
            return  # its stream is over, and nobody has noticed yet
        direct = self._sink.direct
        if direct is None or self._pending:
            self._queue(batch)
        elif not batch.frames or direct.push(batch.chunk, self.bound):
            self._handed(batch)
            self._written = now
            if batch.over:
                self.end(batch.over)
        else:
            self.fall_behind()

    def sit(self, books: Books) -> Transport | None:
        """See `Follower`: None also if `books` do not stand exactly where we do."""
        direct = self._sink.direct
        if direct is None or self._pending or self._over or self._at != books.at:
            return None
        self._seat = books
        self._ordinal -= books.count
        return direct.transport

    def _stand_up(self) -> None:
        seat, self._seat = self._seat, None
        if seat is not None:
            self._at = seat.at
            self._ordinal += seat.count
            self._written = max(self._written, seat.written)

    def end(self, over: Over) -> None:
        """Note that what was written last was the last of our stream."""
        self._stand_up()
        self._over = over
        self._rouse()

    def _queue(self, batch: Batch) -> None:
        self._pending.append(batch)
        self._pending_bytes += len(batch.frames)
        self._over = batch.over
        if self._pending_bytes > self.bound:
            self.fall_behind()
        self._rouse()

    def _handed(self, batch: Batch) -> None:
        self._at = batch.last
        self._ordinal += batch.count

    def reattach(self) -> None:
        """The log is not the one we were reading: check our cursor again, from the log."""
        if self._over and not self._pending:
            return  # it has all of it, and nobody has noticed yet
        self._leave_live()
        if not self.wire.stateless and (self._ordinal or self._skip):
            self.stop("broken")  # an ordinal, or a number of events to skip, names nothing in another log
        self._rouse()

    def stop(self, outcome: Outcome) -> None:
        """End the viewer's run at the next event border."""
        if self._stop is None:
            self._stop = outcome
        self._rouse()

    def abandon(self) -> None:
        """The socket has taken nothing for too long: give it up now."""
        self.stop("broken")
        self._sink.abort()

    def ping(self, line: bytes) -> None:
        """Put a comment line out if nothing else is on its way."""
        if not self.live or self._pending:
            return
        if self._sink.direct is None:
            self._line = line
            self._rouse()
        elif self._sink.direct.push(chunk(line), self.bound):
            self._written = self._loop.time()

    def stuck(self, now: float) -> float:
        """Return for how many seconds the socket has taken nothing of what waits for it."""
        if not self._sending and self._sink.backlog == 0:
            self._stall = NO_STALL
            return 0.0
        self._stall = look(self._stall, self._sink.taken, now)
        return now - self._stall[1]

    @property
    def gone(self) -> bool:
        """Whether the client has left, as far as the connection knows."""
        return self._sink.gone

    def _rouse(self) -> None:
        rouse, self.on_rouse = self.on_rouse, None
        if rouse is not None:
            rouse()

    def fall_behind(self) -> None:
        """Forget what the socket did not take; the log still has it, and `advance` waits for the socket first."""
        self._leave_live()
        if not self.wire.stateless:
            # the live encoder is everybody's and stands further on: replay to where we were, silently
            self._behind = self.cursor or self._behind
            self._at, self._skip, self._ordinal = b"", max(self._skip, self._ordinal), 0
            self.encoder = self.wire.make()
        self._rouse()

    def _leave_live(self) -> None:
        self._stand_up()
        self._tail.leave(self)
        self.live = False
        self._over = None
        self._pending.clear()
        self._pending_bytes = 0

    # -- in the task of whoever runs it

    async def run(self) -> Outcome:
        """Deliver until the end, a break or the client's leaving; raise as `advance` does."""
        self.enter()
        try:
            while (outcome := await self.advance()) is None:
                await self.roused()
            return outcome
        finally:
            self.leave()

    def enter(self) -> None:
        """Have the tail know of us, before the first `advance`."""
        self._tail.enter(self)

    def leave(self) -> None:
        """Have the tail forget us, after the last `advance`; once more does no harm."""
        self._stand_up()
        self._tail.exit(self)
        self.live = False  # no ping after the end

    async def advance(self) -> Outcome | None:
        """Deliver until it is over, or there is nothing to do: None, and `on_rouse` may be set or `roused` awaited.

        Raises `FutureCursor` for a cursor beyond the end, and `Unavailable` as long as nothing has been sent.
        """
        while self._stop is None:
            if not self.live:
                await self._catch_up()
            elif self._pending or self._line:
                await self._flush()
            else:
                return self._over
        return self._stop

    async def roused(self) -> None:
        """Wait until there is something to do."""
        wake: asyncio.Future[None] = self._loop.create_future()
        self.on_rouse = partial(_wake, wake)
        await wake

    async def _flush(self) -> None:
        data = self._line + b"".join(batch.frames for batch in self._pending)
        for batch in self._pending:
            self._handed(batch)
        self._line = b""
        self._pending.clear()
        self._pending_bytes = 0
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        self._sending = True
        await self._sink.send(data)
        self._sending = False
        self._written = self._loop.time()

    async def _catch_up(self) -> None:
        """Send one page from the log, then try to go live."""
        page = await self._next_page()
        if page is None:
            return
        if self._is_of_another(page):
            return self.stop("broken")  # the number of events that it has names nothing there
        have = 0 if self.cursor is None else 1
        fresh = page.entries[have:]
        batch = None
        if fresh:
            batch = page.batch(self.wire, have) if self.wire.stateless else self._encode(fresh)
        full, self._page_entries = page.full, page.then
        entries = [] if full else page.entries
        del page, fresh  # a socket that takes nothing sits on the bytes, and must not sit on the entries too
        if batch is not None:
            await self._write_batch(batch)
            self._handed(batch)
            if batch.over:
                self._check_skip()
                self.stop(batch.over)
        if self._stop is None and not full:
            self._try_live(entries)
            if self.live and not self._sink.started and not self._pending:
                await self._write(b"")  # a client waits for the headers, and the next event may be long in coming

    async def _next_page(self) -> Page | None:
        """Return the page that begins at our cursor; None if there is none, and what that means has been done."""
        self._tail.keep()
        try:
            page = await self._pages.read(self._tail.ref, self.cursor, self._page_entries)
        except Unavailable:
            if not self._sink.started:
                raise
            await self._pause()
            return None
        entries = page.entries
        if not entries or self.cursor not in (None, entries[0].cursor):
            self._pages.forget()  # what has been kept may be of a log that is gone
        if not entries and self.cursor is not None and await self._is_foreign():
            await self._replay()
            return None
        if not entries:
            await self._vanished()
            return None
        self._vanished_at = None
        if self.cursor is not None and entries[0].cursor != self.cursor:
            await self._replay()
            return None
        return page

    def _is_of_another(self, page: Page) -> bool:
        """Whether the log of which this is a page is without what we had of it when we fell behind."""
        behind = self._behind
        if behind is not None and any(entry.cursor == behind for entry in page.entries):
            self._behind = behind = None
        return behind is not None and not (page.full and page.entries[-1].cursor < behind)

    def _encode(self, fresh: list[Entry]) -> Batch:
        """Return the entries as a batch, without the events that are to be skipped; those count as handed over."""
        blocks = [block for entry in fresh for block in self.encoder.encode(entry)]
        skipped = min(max(0, self._skip - self._ordinal), len(blocks))
        self._ordinal += skipped
        return Batch.of(blocks[skipped:], fresh[-1])

    async def _write_batch(self, batch: Batch) -> None:
        """Send what may be much: past ASGI, which would copy it for each viewer, where that is possible."""
        if not batch.frames:
            return
        if not self._sink.started:
            await self._write(b"")
        direct = self._sink.direct
        if direct is not None and direct.push(batch.chunk, self.bound):
            await self._write(b"")  # returns when the socket has room again
        else:
            await self._write(batch.frames)

    def _check_skip(self) -> None:
        """At the end of the log: whoever has more events than it gives has another log's."""
        if self._skip > self._ordinal:
            raise FutureCursor

    def _try_live(self, page: list[Entry]) -> None:
        self._check_skip()
        self.live = True
        if not self._tail.join(self, page):
            self.live = False
            self._tail.heal()

    async def _is_foreign(self) -> bool:
        """Whether there is a log, and it ends before our cursor (rather than: there is no log, yet)."""
        if not (await self._pages.read(self._tail.ref, None)).entries:
            return False
        # Asked again, and of the server itself: between the two reads the owner may have restored the log.
        again = await self._pages.read_alone(self._tail.ref, self.cursor)
        return not again or again[0].cursor != self.cursor

    async def _replay(self) -> None:
        """Our cursor is not in the log: tell the client that what it has is void and begin anew."""
        if self.wire.reset is None:
            self.stop("broken")
            return
        await self._write(self.wire.reset)
        self._at, self._ordinal = b"", 0
        self.encoder = self.wire.make()

    async def _vanished(self) -> None:
        """The stream is gone: perhaps its owner restores it, within its lease."""
        if self._vanished_at is None:
            self._vanished_at = self._loop.time()
        if self._loop.time() >= self._vanished_at + self._restoring_s:
            self.stop("broken")
            return
        await self._pause()

    async def _pause(self) -> None:
        """Wait a moment before asking again, telling a long-silent client that we are still here."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_S):
                await self.roused()
        if self._sink.started and self._loop.time() - self.last_write > STALLED_S:
            await self._write(self.wire.stalled)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
