"""Owns calling a Responses API, in the foreground or in the background, where a run outlives its connection.

In the background the run is attached to again after a break, by this attempt or by a later one on another worker, and
is cancelled upstream when the message is stopped: closing the connection would leave it running, and billed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai

from shared.events import Upstream
from shared.jobs import GenerationRequest
from shared.models import ModelSpec
from worker.upstreams.base import AgentContext, Sink, UpstreamError, give
from worker.upstreams.body import Body, Enough
from worker.upstreams.failures import BROKEN, PASSING, failing_as_upstream
from worker.upstreams.reading import body_of
from worker.upstreams.responses_events import ResponsesEvents
from worker.upstreams.responses_input import responses_body
from worker.upstreams.retry import RetryBudget, with_retries
from worker.upstreams.sse import SseSplitter

log = logging.getLogger(__name__)

CANCEL_WITHIN_S = 0.8
_CANCEL_PAUSES_S = (0.2, 0.8, 0.0)


@dataclass(frozen=True, slots=True)
class Responses:
    """One model of one Responses API, as an `Upstream`."""

    spec: ModelSpec
    client: openai.AsyncOpenAI
    budget: RetryBudget
    direct_reads: bool = True

    async def __call__(self, request: GenerationRequest, context: AgentContext, sink: Sink) -> None:
        """Give the answer to `sink`; with `context.upstream_id` that of the run of this name, from its beginning.

        Raises `UpstreamError` if it cannot be had or breaks.
        """
        fields = {**context.ref.fields, "attempt": context.attempt}
        await with_retries(lambda: self._run(request, context, sink), sink, self.budget, fields)

    async def _run(self, request: GenerationRequest, context: AgentContext, sink: Sink) -> None:
        reader = ResponsesEvents(context.upstream_id, tells_id=self.spec.background)
        try:
            if reader.response_id:
                await give(sink, [Upstream(reader.response_id)])
            await self._read(request, reader, context, sink)
            await give(sink, reader.close())
        finally:
            if reader.usage is not None:
                context.add_usage(reader.usage)
            if self.spec.background and reader.response_id and not reader.finished and not context.keep_upstream:
                context.orphan = reader.response_id
                if await self._cancel(reader.response_id, context.headers):
                    context.orphan = ""

    async def _read(
        self, request: GenerationRequest, reader: ResponsesEvents, context: AgentContext, sink: Sink
    ) -> None:
        """Read to the end of the run, attaching to it again when the connection breaks, as often as may be."""
        breaks = 0
        while True:
            attached = reader.response_id
            try:
                async with self._body_of_call(request, context, attached, reader.number) as body:
                    await _drain(body, reader, sink)
                if reader.finished:
                    return
                raise UpstreamError("upstream_interrupted", retryable=True)
            except UpstreamError as error:
                breaks += 1
                broken = error.code == "upstream_interrupted" and error.retryable  # a cancelled run is neither
                if not (self.spec.background and reader.response_id and broken) or breaks > self.budget.times:
                    raise
            reader.attach_again()
            log.info("attaching to the upstream's run again", extra={"breaks": breaks})
            await asyncio.sleep(min(self.budget.first_pause_s * breaks, self.budget.longest_pause_s))

    @asynccontextmanager
    async def _body_of_call(
        self, request: GenerationRequest, context: AgentContext, attach: str, after: int
    ) -> AsyncGenerator[Body, None]:
        api, headers = self.client.responses.with_streaming_response, context.headers
        with failing_as_upstream():
            if attach:
                more: dict[str, Any] = {"starting_after": after} if after >= 0 else {}
                call = api.retrieve(attach, stream=True, extra_headers=headers, **more)
            else:
                call = api.create(
                    model=self.spec.model,
                    input=[],
                    stream=True,
                    extra_body=self._body(request),
                    extra_headers=headers,
                )
            async with call as response, body_of(response, direct=self.direct_reads) as body:
                yield body

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        body = responses_body(request)
        if self.spec.background:
            body |= {"background": True, "store": True}
        return body

    async def cancel_run(self, run_id: str, headers: Mapping[str, str]) -> bool:
        """See `CancelsRuns`."""
        for pause in _CANCEL_PAUSES_S:
            if await self._cancel(run_id, headers):
                return True
            await asyncio.sleep(pause)
        return False

    async def _cancel(self, run_id: str, headers: Mapping[str, str]) -> bool:
        try:
            async with asyncio.timeout(CANCEL_WITHIN_S):
                await self.client.responses.cancel(run_id, extra_headers=headers)
        except openai.APIStatusError as error:
            # Unknown there, or over by itself: nothing is left to cancel, and asking again would not change that.
            gone = 400 <= error.status_code < 500 and error.status_code not in PASSING
            log.log(logging.INFO if gone else logging.WARNING, "cancel refused", extra={"status": error.status_code})
            return gone
        except (TimeoutError, *BROKEN) as error:
            log.warning("upstream's run not cancelled", extra={"reason": type(error).__name__})
            return False
        return True


async def _drain(body: Body, reader: ResponsesEvents, sink: Sink) -> None:
    """Read a body to the response's end, or to its own."""
    splitter = SseSplitter()

    def take(piece: bytes) -> bool:
        full = False
        for data in splitter.feed(piece):
            if events := reader.feed(data):
                full = sink.take(events)
            if reader.finished:
                raise Enough
        return full

    if await body.pour(take, sink.room):
        for data in splitter.close():
            await give(sink, reader.feed(data))
