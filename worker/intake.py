"""Owns the way from "look at this message" to a running attempt: read, plan, claim; or end what may not run."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal

from shared.dispatch import Dispatcher
from shared.events import Attempt, encode_event
from shared.ids import MessageRef
from shared.jobs import GenerationRequest, decode_request
from shared.log.ending import end_unowned, failure
from shared.log.log import Log
from shared.log.segments import SEGMENT_ENTRIES, Segment, fitting
from shared.log.types import Backup, Claimed, Entry, Meta, NotClaimed, Ownership, new_token
from shared.models import ModelSpec
from worker.failpoints import failpoint
from worker.generate import Deadlines, Generation, Parts
from worker.lease import Lease
from worker.ledger import Ledger
from worker.metrics import Metrics
from worker.recovery import GiveUp, Plan, plan_attempt
from worker.sender import WriterLimits
from worker.settings import WorkerSettings
from worker.upstreams.base import AgentContext
from worker.upstreams.config import Upstreams
from worker.writer import Writer

log = logging.getLogger(__name__)

_TRIES = 4
_CODES: dict[str, str] = {"expired": "deadline_exceeded", "exhausted": "worker_lost", "lost": "lost"}


@dataclass(frozen=True, slots=True)
class Intake:
    """Claims messages for one worker. `channel` is where the worker hears of stops."""

    store: Log
    dispatcher: Dispatcher
    upstreams: Upstreams
    settings: WorkerSettings
    metrics: Metrics
    channel: str
    unfit_for_prefill: set[str]

    async def take(self, ref: MessageRef) -> Generation | None:
        """Return an attempt at `ref`, claimed and ready to run; None if there is nothing to do (any more).

        Raises `Unavailable`; then the message may have been claimed, and comes up again when the lease ends.
        """
        for _ in range(_TRIES):
            meta, backup, entries = await asyncio.gather(
                self.store.meta(ref), self.store.backup(ref), self.store.read_all(ref)
            )
            if meta is None or meta.terminal or meta.leased or backup is None:
                return None
            generation = await self._try(meta, backup, entries)
            if generation != "again":
                return generation
        log.warning("message keeps changing under the claim", extra=ref.fields)
        return None

    async def _try(self, meta: Meta, backup: Backup, entries: list[Entry]) -> Generation | Literal["again"] | None:
        ref = meta.ref
        request = decode_request(backup.request)
        spec = self.upstreams.models.get(request.model)
        prefills = request.model not in self.unfit_for_prefill
        plan = plan_attempt(spec, request, entries, released=meta.state == "queued", prefills=prefills)
        if isinstance(plan, GiveUp):
            return await self._force(meta, "failed", plan.code)
        segments = await self._segments(ref, entries)
        marker = encode_event(Attempt(meta.attempts + 1, plan.reason, plan.mode))
        sent_at = asyncio.get_running_loop().time()
        claim = await self._claim(meta, marker)
        if isinstance(claim, NotClaimed):
            return await self._not_claimed(meta, claim)
        own = claim.ownership
        failpoint("after_claim")
        if own.marker_seq != len(entries) + 1:
            # Somebody wrote between our reading and our claim, so the plan is about another text.
            await self.store.release(own)
            return "again"
        self._count(meta, plan, own)
        generation = self._generation(meta, own, request, spec, plan)
        ledger = self._ledger(own, plan, marker, segments)
        lease = Lease(self.settings.lease_ms, self.settings.heartbeat_ms, sent_at)
        writer = self._writer(own, ledger, backup, lease, generation)
        context = AgentContext(own.ref, own.attempt, lambda: plan.prior, self.upstreams.http, generation.add_usage)
        generation.use(writer, context)
        return generation

    async def _claim(self, meta: Meta, marker: bytes) -> Claimed | NotClaimed:
        return await self.store.claim(
            meta.ref,
            token=new_token(),
            lease_ms=self.settings.lease_ms,
            most_attempts=self.settings.max_attempts,
            attempts_seen=meta.attempts,
            marker=marker,
            channel=self.channel,
        )

    async def _segments(self, ref: MessageRef, entries: list[Entry]) -> list[Segment]:
        """Return the segments of `entries` that earlier owners have left."""
        return fitting(await self.store.segments(ref), entries) if len(entries) > SEGMENT_ENTRIES else []

    def _generation(
        self, meta: Meta, own: Ownership, request: GenerationRequest, spec: ModelSpec | None, plan: Plan
    ) -> Generation:
        settings, upstream = self.settings, self.upstreams.get(request.model)
        parts = Parts(self.store, self.dispatcher, self.metrics, upstream, spec, self.unfit_for_prefill)
        deadlines = Deadlines(
            (spec and spec.first_token_s) or settings.first_token_s,
            (spec and spec.silence_s) or settings.silence_s,
            max((meta.deadline - meta.now) / 1000, 0.0),
        )
        return Generation(own, request, plan, parts, deadlines)

    def _ledger(self, own: Ownership, plan: Plan, marker: bytes, segments: list[Segment]) -> Ledger:
        return Ledger(
            plan.entries,
            own.epoch,
            marker,
            max_entry=self.settings.max_entry_bytes,
            max_bytes=self.settings.max_message_bytes,
            max_entries=self.settings.max_message_entries,
            segments=segments,
        )

    def _writer(self, own: Ownership, ledger: Ledger, backup: Backup, lease: Lease, generation: Generation) -> Writer:
        settings = self.settings
        limits = WriterLimits(
            settings.flush_bytes,
            settings.flush_delay_ms / 1000,
            settings.max_unsent_bytes,
            settings.outage_s,
            settings.direct_appends,
        )
        return Writer(
            self.store,
            own,
            ledger,
            backup,
            lease,
            limits,
            channel=self.channel,
            signal=generation.signal,
            metrics=self.metrics,
        )

    async def _not_claimed(self, meta: Meta, claim: NotClaimed) -> Literal["again"] | None:
        if claim.reason == "moved":
            return "again"
        if claim.reason == "final":
            await self.store.unwatch(meta.ref)
        if not claim.needs_force:
            return None
        if claim.reason == "stopped":
            return await self._force(meta, "aborted", None)
        return await self._force(meta, "failed", _CODES.get(claim.reason, "worker_lost"))

    async def _force(
        self, meta: Meta, state: Literal["aborted", "failed"], code: str | None
    ) -> Literal["again"] | None:
        """End a message that may not run (again); one that was asked to stop ends as stopped, whatever else it is."""
        if meta.stop is not None:
            state, code = "aborted", None
        reply = await end_unowned(self.store, self.dispatcher, meta, state, failure(code) if code else None)
        return "again" if reply.status == "moved" else None

    def _count(self, meta: Meta, plan: Plan, own: Ownership) -> None:
        self.metrics.attempts.labels(plan.reason, plan.mode).inc()
        if plan.reason == "first":
            self.metrics.claim_s.observe(max(own.epoch / 1_000_000 - meta.born / 1000, 0.0))
        fields = {**own.ref.fields, "attempt": own.attempt, "reason": plan.reason, "mode": plan.mode}
        log.info("message claimed", extra=fields)
