"""Owns calling a Chat Completions API: the SDK for auth, base URLs and errors, raw bytes for the stream.

The SDK's per-chunk models cost more than all the rest of a token's way together, so its response is read as bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import openai

from shared.events import Event
from shared.jobs import GenerationRequest
from shared.models import ModelSpec
from worker.upstreams.base import AgentContext, Sink, give
from worker.upstreams.body import Body, Enough
from worker.upstreams.chat_events import ChatEvents
from worker.upstreams.dialect import Dialect, Relearnt
from worker.upstreams.failures import BROKEN, failing_as_upstream
from worker.upstreams.reading import body_of
from worker.upstreams.retry import RetryBudget, with_retries
from worker.upstreams.sse import EventTooLong, SseSplitter

TRAILER_S = 5.0
"""How long usage and `[DONE]` are waited for once the model has said why it finished."""
OURS = frozenset(("model", "messages", "stream", "stream_options", "extra_headers", "extra_query", "extra_body"))
"""Parameters that a request does not decide."""


@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """One model of one Chat Completions API, as an `Upstream`."""

    spec: ModelSpec
    client: openai.AsyncOpenAI
    budget: RetryBudget
    direct_reads: bool = True
    dialect: Dialect = field(default_factory=Dialect)

    async def __call__(self, request: GenerationRequest, context: AgentContext, sink: Sink) -> None:
        """Give the answer to `sink`; raise `UpstreamError` if it cannot be had or breaks."""
        fields = {**context.ref.fields, "attempt": context.attempt}
        await with_retries(lambda: self._understood(request, context, sink), sink, self.budget, fields)

    async def _understood(self, request: GenerationRequest, context: AgentContext, sink: Sink) -> None:
        while True:  # once more for each thing that is learnt
            with suppress(Relearnt):
                return await self._once(request, context, sink)

    async def _once(self, request: GenerationRequest, context: AgentContext, sink: Sink) -> None:
        chunks, splitter = ChatEvents(), SseSplitter()

        def take(piece: bytes) -> bool:
            full = False
            for data in splitter.feed(piece):
                if events := chunks.feed(data):
                    full = sink.take(events)
            if chunks.done or chunks.reason is not None:
                raise Enough
            return full

        try:
            async with self._body_of_call(request, context) as body:
                if await body.pour(take, sink.room):
                    for data in splitter.close():
                        await give(sink, chunks.feed(data))
                elif not chunks.done:
                    await give(sink, await _trailer(body, splitter, chunks))
        finally:
            self.dialect.hear(chunks.thoughts)
            if chunks.usage is not None:
                context.add_usage(chunks.usage)
        await give(sink, chunks.close())

    @asynccontextmanager
    async def _body_of_call(self, request: GenerationRequest, context: AgentContext) -> AsyncGenerator[Body, None]:
        said = self.dialect.say(self._body(request))
        with failing_as_upstream(), self.dialect.heeding(said):
            async with (
                self.client.chat.completions.with_streaming_response.create(
                    model=self.spec.model,
                    messages=[],
                    stream=True,
                    extra_body=said,
                    extra_headers=context.headers,
                ) as response,
                body_of(response, direct=self.direct_reads) as body,
            ):
                yield body

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        body = {key: value for key, value in request.params.items() if key not in OURS}
        options = request.params.get("stream_options")
        body["messages"] = request.messages
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        return body


async def _trailer(body: Body, splitter: SseSplitter, chunks: ChatEvents) -> list[Event]:
    """Read on after the model's last word, for usage; what breaks there breaks nothing. Returns late content."""
    late: list[Event] = []

    def take(piece: bytes) -> bool:
        for data in splitter.feed(piece):
            late.extend(chunks.feed(data))
        if chunks.done:
            raise Enough
        return False

    with suppress(*BROKEN, EventTooLong, TimeoutError):
        async with asyncio.timeout(TRAILER_S):
            if await body.pour(take, _no_wait):
                for data in splitter.close():
                    late += chunks.feed(data)
    return late


async def _no_wait() -> None:
    """Wait for nothing: a trailer is short."""
