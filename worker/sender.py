"""Owns sending one message's entries: in the log's next round, then whatever came while one append was under way.

One append at a time. On the fast path EXTENDs chain through callbacks, because waking a task costs more than everything
else done for a token. Anything unusual wakes the task, which APPENDs the same entries. The task also sends the
heartbeats that renew the lease and bring back stop requests.
Tasks: `run` is that task; its owner (the generation) starts and cancels it, and with it the task of `Checkpoints`.
What Redis lost is written again out of the ledger; what is no longer ours is left alone.
Lost on a crash: what was not yet acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shared.errors import StorageFull, Unavailable
from shared.events import Event, Spoken
from shared.log.extender import Extension
from shared.log.log import Log
from shared.log.types import Backup, Ownership, Reply
from worker.checkpoints import Checkpoints
from worker.lease import Lease
from worker.ledger import Ledger
from worker.metrics import Metrics

log = logging.getLogger(__name__)

Signal = Literal["stop", "fenced", "ended", "cut_off"]
"""What a reply tells the generation: stop; somebody else has the message; it is over or gone; the lease may be over."""

_LEAST_DEADLINE_S = 0.05
"""What an append gets although the lease is over: it may still be ours, and its reply says so."""


class NotOurs(Exception):
    """Raised when nothing more may be written: somebody else has the message, or it has `ended` (or was deleted).

    To an upstream it says that its attempt is over.
    """

    def __init__(self, *, ended: bool = False) -> None:
        super().__init__()
        self.ended = ended


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """Bounds of one writer."""

    flush_bytes: int
    flush_delay_s: float
    max_unsent_bytes: int
    outage_s: float
    extends: bool = True
    """Whether EXTENDs are sent at all; otherwise the task APPENDs."""


class Sender:
    """Sends what it is given to the log of a message that we own."""

    def __init__(
        self,
        store: Log,
        own: Ownership,
        ledger: Ledger,
        backup: Backup | None,
        lease: Lease,
        limits: WriterLimits,
        *,
        channel: str,
        signal: Callable[[Signal], None],
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._own = own
        self.ledger = ledger
        self._backup = backup
        self.lease = lease
        self._limits = limits
        self._channel = channel
        self._signal = signal
        self._metrics = metrics
        self._soon = store.extender.soon
        self._marker_seq = ledger.marker_seq
        self.acked = ledger.marker_seq
        """The seq of the last entry that Redis has confirmed."""
        self._checkpoints = Checkpoints(store, own, ledger, metrics)
        self._loop = asyncio.get_running_loop()
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._beat = False
        self._parked = False
        """Whether the task leaves the sending to the callbacks."""
        self._shooting = False
        """Whether a callback is due: `_shoot`, or `_landed` after its EXTEND."""
        self._shot = (0.0, 0)
        """When the EXTEND under way was sent, and the last seq in it."""
        self._known_to: object | None = None
        """The connection on which an APPEND was answered `ok`; only there ids are a fence (PROTOCOL 8.14)."""
        self._closed = False
        self._may_restore_at = 0.0
        self.storage_full = False
        """Whether Redis refused the last append for want of memory."""

    def put(self, event: Event) -> None:
        """Take an event for the log; ask `full` afterwards. Raise `NotOurs` once the message is being ended.

        An upstream that missed its cancellation is told so: else it would go on for nobody.
        """
        if self._closed:
            raise NotOurs
        self.ledger.put(event)
        self._rouse()

    def say(self, delta: Spoken) -> None:
        """Take a piece of text, as `put`; raise `OutputLimit` if the message may not grow by it."""
        if self._closed:
            raise NotOurs
        self.ledger.say(delta)
        self._rouse()

    def beat(self) -> None:
        """Send a heartbeat soon; its reply tells of a stop."""
        self._beat = True
        self._rouse()

    @property
    def full(self) -> bool:
        """Whether so much is unsent that the upstream should be read no further for now."""
        return self.ledger.waiting_bytes > self._limits.max_unsent_bytes

    async def wait_room(self) -> None:
        """Wait until the writer is not full; the lease's end, which the generation watches, bounds it."""
        while self.full:
            self._room = self._loop.create_future()
            await self._room

    async def wait_stored(self) -> None:
        """Wait until Redis has confirmed all that was put; bounded as `wait_room`."""
        while self.ledger.goes_beyond(self.acked):
            if self._closed:
                raise NotOurs
            self._room = self._loop.create_future()
            await self._room

    async def run(self) -> None:
        """Send until cancelled, or until a reply says that there is nothing more to send; that is signalled first."""
        try:
            await self._send()
        finally:
            await self._checkpoints.close()

    async def _send(self) -> None:
        first = True
        while True:
            if not self._to_send:
                await self._park()
            if not first and self._limits.flush_delay_s and not self._beat:
                await asyncio.sleep(self._limits.flush_delay_s)
            first = False
            try:
                await self._append(self.lease.left_s(self._loop.time()))
                self._checkpoints.look(self.acked)
            except NotOurs as refusal:
                return self._signal("ended" if refusal.ended else "fenced")
            except StorageFull:
                self.storage_full = True
                await asyncio.sleep(0.2)
            except Unavailable:
                return self._signal("cut_off")

    async def _park(self) -> None:
        """Leave the sending to the callbacks until they wake the task."""
        self._wake = self._loop.create_future()
        self._parked = True
        try:
            await self._wake
        finally:
            self._parked = False

    def _wake_task(self, error: Exception | None = None) -> None:
        self._parked = False
        if self._wake is None or self._wake.done():
            return
        if error is None:
            self._wake.set_result(None)
        else:
            self._wake.set_exception(error)

    def _rouse(self) -> None:
        if self._shooting or not self._parked:
            return  # the callback that is due, or the task, will look again by itself
        if self._limits.flush_delay_s or not self._limits.extends:
            self._wake_task()
        else:
            self._shooting = True
            # The first token goes out at once: until then the viewer sees nothing.
            self._soon(self._shoot, urgent=self.acked == self._marker_seq)

    def _shoot(self, now: float) -> Extension | None:
        """Send what waits, if that is all there is to do."""
        try:
            if not self._parked or self._beat or not self._is_known_here():
                self._shooting = False
                self._wake_task()
                return None
            batch = self.ledger.next_batch(self.acked, self._limits.flush_bytes)
        except Exception as error:  # the boundary of a callback: the error is raised in the task
            self._shooting = False
            self._wake_task(error)
            return None
        self._shot = (now, self.acked + len(batch))
        deadline_s = max(self.lease.left_s(now), _LEAST_DEADLINE_S)
        return Extension(self._own, self.acked, batch, deadline_s, self._landed)

    def _landed(self, went_well: bool) -> None:
        """Go on after an EXTEND; if it failed, the task learns why by an APPEND of the same entries."""
        self._shooting = False
        if not self._parked:
            return  # The task has taken over: it, or FINISH, sends the same entries again.
        if not went_well:
            return self._wake_task()
        sent_at, last = self._shot
        self._confirm(last, sent_at)
        if self.ledger.due(last):
            self._checkpoints.look(last)
        if self._to_send:
            self._rouse()

    def _confirm(self, last: int, sent_at: float) -> None:
        self._metrics.append_s.observe(self._loop.time() - sent_at)
        self._metrics.entries.value += last - self.acked
        self.acked = last
        self.storage_full = False
        if self._room is not None:
            self._tell_room()

    def _tell_room(self) -> None:
        if self._room is not None and not self._room.done() and not self.full:
            self._room.set_result(None)

    def _is_known_here(self) -> bool:
        return self._known_to is not None and self._known_to is self._store.standing(self._own.ref)

    @property
    def _to_send(self) -> bool:
        return self._beat or self.ledger.goes_beyond(self.acked)

    async def _append(self, deadline_s: float) -> Reply:
        """Send one append and act on its reply; raise `NotOurs` or `Unavailable`."""
        self._beat = False
        sent_at, connection = self._loop.time(), self._store.standing(self._own.ref)
        reply = await self._store.append(
            self._own,
            self.acked + 1,
            self.ledger.next_batch(self.acked, self._limits.flush_bytes),
            lease_ms=self.lease.lease_ms,
            renew_ttl=self.lease.take_ttl_due(sent_at),
            deadline_s=max(deadline_s, _LEAST_DEADLINE_S),
        )
        if reply.status == "ok":
            self._known_to = connection if connection is self._store.standing(self._own.ref) else None
            self._confirm(reply.seq, sent_at)
            self.lease.confirmed(sent_at)
            if reply.stop:
                self._signal("stop")
        else:
            await self.mend(reply)
            self._tell_room()
        return reply

    async def mend(self, reply: Reply) -> None:
        """Make good what a reply says was lost, so that the caller may send again; raise `NotOurs` if it cannot be."""
        if reply.status == "gap" and reply.seq >= self.ledger.marker_seq:
            self._metrics.gaps.inc()
            log.warning("log tail written again", extra=self._fields(kept_seq=reply.seq))
            self.acked = reply.seq
            return
        claim_lost = reply.status == "fenced" and 0 < reply.epoch < self._own.epoch
        if claim_lost or reply.status in ("lost", "gone"):
            await self._restore()
            return
        self._metrics.fenced.inc()
        log.info("message is no longer ours", extra=self._fields(reply=reply.status, state=reply.state))
        raise NotOurs(ended=reply.status == "final")

    async def _restore(self) -> None:
        # After the lease somebody else may have begun anew, unseen by a Redis that lost everything.
        sent_at = self._loop.time()
        left = self.lease.left_s(sent_at)
        if self._backup is None or left <= 0 or sent_at < self._may_restore_at:
            raise NotOurs
        entries = self.ledger.entries()
        reply = await self._store.restore(
            self._own,
            self._backup,
            entries,
            lease_ms=self.lease.lease_ms,
            channel=self._channel,
            deadline_s=left,
        )
        self._may_restore_at = sent_at + self.lease.lease_ms / 1000  # lost again at once is lost for a reason
        log.warning("lost log written again", extra=self._fields(reply=reply.status, entries=len(entries)))
        if reply.status != "ok":
            raise NotOurs
        self._metrics.restores.inc()
        self.lease.confirmed(sent_at)
        self.acked = reply.seq

    def close(self) -> None:
        """Take nothing more, and tell who waits to give more; what waits here keeps its place."""
        self.ledger.encode()
        self._closed = True
        self._tell_room()

    async def flush(self) -> Reply:
        """Send until Redis has confirmed everything; raise as `mend`, or `Unavailable`."""
        while True:
            reply = await self._append(2.0)
            if reply.status == "ok" and self.acked >= self.ledger.last_seq:
                return reply

    def _fields(self, **more: object) -> dict[str, object]:
        return {**self._own.ref.fields, "attempt": self._own.attempt, **more}
