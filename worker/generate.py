"""Owns one attempt at one message: upstream -> inlet -> writer -> end. Knows neither the queue nor the SDK.

Tasks: the pump (reads the upstream) and the sender (`Writer.run`); both are started and cancelled by `run`, which the
supervisor owns. Whatever cuts the attempt short arrives as one interrupt, the first one counts: a stop, a lost lease,
a deadline, a drain. Lost on a crash: what the writer had not yet got acknowledged; another attempt takes over.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Literal

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.errors import Unavailable
from shared.futures import ignore_failure
from shared.jobs import GenerationRequest, Run
from shared.link import ReplyError
from shared.log.ending import FAILOVER_WINDOW_MS, failure, last_words
from shared.log.log import Log
from shared.log.types import Ownership
from shared.log.usage import usage_metadata
from shared.models import ModelSpec
from shared.orphans import have_cancelled
from shared.tasks import end_tasks
from worker.failpoints import failpoint
from worker.grammar import AgentFailed
from worker.inlet import Inlet
from worker.ledger import OutputLimit
from worker.metrics import Metrics
from worker.recovery import Plan, continuation
from worker.sender import NotOurs, Signal
from worker.upstreams.base import CLOSE_S, AgentContext, CancelsRuns, Upstream, UpstreamError
from worker.writer import Writer

log = logging.getLogger(__name__)

Cause = Literal["stop", "fenced", "ended", "cut_off", "storage_full", "drain", "silent", "deadline"]
_FAILED_BY: dict[str, str] = {
    "silent": "upstream_timeout",
    "deadline": "deadline_exceeded",
    "storage_full": "storage_full",
}


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long what may take; `total_s` counts from now."""

    first_token_s: float
    silence_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Parts:
    """What an attempt works with."""

    store: Log
    dispatcher: Dispatcher
    metrics: Metrics
    upstream: Upstream | None
    spec: ModelSpec | None
    unfit_for_prefill: set[str]
    """Names of models that refused to continue; shared by the worker's attempts."""


class Generation:
    """One attempt. `run` drives it; `tick`, `interrupt` and `hint` may be called at any time from the same loop."""

    def __init__(
        self, own: Ownership, request: GenerationRequest, plan: Plan, parts: Parts, deadlines: Deadlines
    ) -> None:
        self.own = own
        self._request = request
        self._plan = plan
        self._parts = parts
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._interrupted: asyncio.Future[Cause] = self._loop.create_future()
        self._began = self._loop.time()
        self._runs_tools = parts.spec is not None and parts.spec.kind == "agent"
        self.writer: Writer  # set by `use`, since the two need each other
        self._inlet: Inlet
        self.context: AgentContext

    def use(self, writer: Writer, context: AgentContext) -> None:
        """Give the attempt its writer and its upstream's context, before `run`."""
        self.writer = writer
        called = self._request.called
        self._inlet = Inlet(self.own.ref.message_id, self._plan, writer, self._parts.metrics, called)
        self.context = context

    def let_go(self) -> None:
        """Forget both, once nobody uses the attempt any more: they know it, and a circle waits for the collector.

        With it would the log, of hundreds of messages: bytes are not what the collector counts.
        """
        del self.writer, self.context, self._inlet

    @property
    def fields(self) -> dict[str, object]:
        """What every log line about this attempt says."""
        return {**self.own.ref.fields, "attempt": self.own.attempt, "model": self._request.model}

    def interrupt(self, cause: Cause) -> None:
        """Cut the attempt short, unless something else already has."""
        if not self._interrupted.done():
            self._interrupted.set_result(cause)

    def signal(self, signal: Signal) -> None:
        """Hear from the writer."""
        self.interrupt(signal)

    def hint(self) -> None:
        """Hear that a stop may have been asked for: the reply to a heartbeat will tell."""
        self.writer.beat()

    def tick(self, now: float) -> None:
        """Look at the deadlines and the lease; called several times a second."""
        lease = self.writer.lease
        if lease.left_s(now) <= 0:
            self.interrupt("storage_full" if self.writer.storage_full else "cut_off")
        elif lease.beat_due(now) or lease.ttl_due(now):
            self.writer.beat()
        if self.writer.full:
            self._inlet.progress = now  # it is Redis that is slow, not the upstream
        if now - self._began > self._deadlines.total_s:
            self.interrupt("deadline")
        if self._runs_tools and self._inlet.awaits_tool:
            self._inlet.progress = now  # a tool takes as long as it takes; the total deadline bounds it
        limit = self._deadlines.silence_s if self._inlet.begun else self._deadlines.first_token_s
        if now - self._inlet.progress > limit:
            self.interrupt("silent")

    def add_usage(self, usage: ev.Usage) -> None:
        """Count tokens of one model call."""
        self._inlet.add_usage(usage)

    async def run(self) -> str:
        """Drive the attempt to its end and return what became of it, for the metrics.

        Cancelling abandons the message as a crash would: nothing more is written, another attempt takes over.
        """
        sender = asyncio.create_task(self.writer.run(), name="sender")
        pump = asyncio.create_task(self._pump(), name="pump")
        try:
            any_of: set[asyncio.Future[Any]] = {pump, self._interrupted, sender}
            await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
            if not pump.done() and self._has_broken(sender):
                self.interrupt("cut_off")  # nothing gets into the log any more; perhaps another worker does better
            cause = None if pump.done() or not self._interrupted.done() else self._interrupted.result()
            self.context.keep_upstream = cause in ("drain", "cut_off", "fenced")
            await self._close_pump(pump)
            # Lost while the last events were on their way: there is nothing left to end.
            if self._interrupted.done() and self._interrupted.result() in ("fenced", "ended", "cut_off"):
                cause = self._interrupted.result()
        finally:
            await self._close_pump(pump)
            await end_tasks(sender)
        try:
            return await self._conclude(cause, pump)
        except NotOurs:
            return "fenced"
        except Unavailable:
            log.warning("end not written, Redis is away", extra=self.fields)
            return "abandoned"
        except ReplyError as error:
            log.error("end not written, Redis refuses it", extra=self.fields, exc_info=error)
            return "abandoned"
        finally:
            self.writer.close()

    def _has_broken(self, sender: asyncio.Task[None]) -> bool:
        error = sender.exception() if sender.done() and not sender.cancelled() else None
        if error is not None:
            log.error("writing failed", extra=self.fields, exc_info=error)
        return error is not None

    async def _close_pump(self, pump: asyncio.Task[None]) -> None:
        if not pump.done():
            pump.cancel()
            await asyncio.wait({pump}, timeout=CLOSE_S)
            if not pump.done():
                log.error("upstream ignores its cancellation", extra=self.fields)
                pump.add_done_callback(ignore_failure)  # its next event is refused, once the writer is closed
        if pump.done() and not pump.cancelled():
            pump.exception()  # looked at, so that asyncio does not report it as forgotten

    async def _conclude(self, cause: Cause | None, pump: asyncio.Task[None]) -> str:
        match cause:
            case "fenced" | "ended":
                return "fenced"
            case "cut_off" | "drain":
                # What is in memory still goes into the log if it is still ours, so that the next attempt has it.
                self._inlet.log_usage()
                try:
                    # A drain is nobody's fault. All else counts, or a flapping Redis or worker would cost us for ever.
                    await self.writer.release(refund=cause == "drain")
                except NotOurs:  # or released, and the reply was lost: one dispatch too many does no harm
                    await self._parts.dispatcher.dispatch(self.own.ref, begun=True)
                    raise
                await self._parts.dispatcher.dispatch(self.own.ref, begun=True)
                return "released"
            case "stop":
                return await self._end("aborted", None)
            case None:
                error = self._pump_failure(pump)
                if error is not None and await self._stop_wished():
                    return await self._end("aborted", None)  # it may have failed because the stop cancelled it
                return await self._end("failed" if error else "done", error)
            case _:
                return await self._end("failed", failure(_FAILED_BY[cause]))

    async def _stop_wished(self) -> bool:
        """Whether a stop was asked for and we have not heard of it yet."""
        try:
            meta = await self._parts.store.meta(self.own.ref)
        except Unavailable:
            return False
        return meta is not None and meta.stop is not None

    async def _end(self, state: ev.TerminalState, error: ev.Failure | None) -> str:
        usage = self._inlet.spending.known()
        if self._plan.ended is not None:
            state = self._plan.ended
            error = failure("upstream_error") if state == "failed" else None
        elif state == "done":
            for event in self._inlet.grammar.finish(usage_metadata(usage) if usage else {}):
                self.writer.put(event)
        else:
            closing = self._inlet.grammar.break_off()
            if self._inlet.behind:
                closing = self._plan.outline.endings(self.own.ref.message_id)
            for event in (*closing, *last_words(state, error)):
                self.writer.put(event)
        failpoint("before_finish")
        stands = await self.writer.finish(state, ev.End(state, self.own.attempt, usage, error))
        failpoint("after_finish")
        if error is not None and stands == "failed":
            self._parts.metrics.failures.labels(error.code).inc()
            log.info("generation failed", extra={**self.fields, "code": error.code})
        await self._parts.store.watch(self.own.ref, FAILOVER_WINDOW_MS)
        if orphan := self.context.orphan:
            run = Run(self.own.ref.member, self._request.model, orphan, self.own.attempt)
            await have_cancelled(self._parts.dispatcher, run)
        return stands

    def _pump_failure(self, pump: asyncio.Task[None]) -> ev.Failure | None:
        if pump.cancelled():  # not by us: the agent awaited something that it, or its library, had cancelled
            log.error("agent was cancelled from within", extra=self.fields)
            return failure("agent_error")
        error = pump.exception()
        match error:
            case None:
                return None
            case UpstreamError():
                log.info("upstream failed", extra={**self.fields, **error.for_log})
                return ev.Failure(error.code, str(error), error.upstream_code)
            case AgentFailed():
                return failure("agent_error", str(error))
            case OutputLimit():
                return failure("output_limit")
            case _:
                log.error("agent raised", extra=self.fields, exc_info=error)
                return failure("agent_error")

    async def _pump(self) -> None:
        plan = self._plan
        if plan.ended is not None:
            return
        upstream = self._parts.upstream
        if upstream is None:
            raise UpstreamError("model_not_found")
        if plan.mode in ("continue", "reattach"):
            go_on = self._continue if plan.mode == "continue" else self._reattach
            try:
                return await go_on(upstream, plan)
            except UpstreamError as error:
                if error.code != "upstream_rejected" or self._inlet.begun:
                    raise
                refused = error.upstream_code is None  # else it says what is wrong with this answer, or the account
            if plan.mode == "continue" and refused:
                self._parts.unfit_for_prefill.add(self._request.model)
            log.warning("upstream does not go on, restarting", extra={**self.fields, "mode": plan.mode})
            self.context.upstream_id = ""
            self._inlet.restart("upstream_error")
        elif plan.mode == "restart":
            if plan.upstream_id and isinstance(upstream, CancelsRuns):
                await upstream.cancel_run(plan.upstream_id, self.context.headers)
            self._inlet.restart(plan.reason)
        await upstream(self._request, self.context, self._inlet)

    async def _continue(self, upstream: Upstream, plan: Plan) -> None:
        assert self._parts.spec is not None
        request, shown = continuation(self._request, self._parts.spec, plan.partial)
        self._inlet.expect_rest(shown)
        await upstream(request, self.context, self._inlet)

    async def _reattach(self, upstream: Upstream, plan: Plan) -> None:
        self._inlet.expect_replay(plan.content)
        self.context.upstream_id = plan.upstream_id
        await upstream(self._request, self.context, self._inlet)
