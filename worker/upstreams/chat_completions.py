"""Owns calling a Chat Completions API: the SDK for auth, base URLs and errors, raw bytes for the stream.

The SDK's per-chunk models cost more than all the rest of a token's way together, so its response is read as bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from shared.events import Event
from shared.jobs import GenerationRequest
from shared.models import ModelSpec
from worker.upstreams.base import AgentContext, Sink, UpstreamError, give
from worker.upstreams.chat_events import ChatEvents
from worker.upstreams.failures import from_sdk
from worker.upstreams.reading import body_of
from worker.upstreams.retry import RetryBudget, with_retries
from worker.upstreams.sse import EventTooLong, SseSplitter

TRAILER_S = 5.0
"""How long usage and `[DONE]` are waited for once the model has said why it finished."""
OURS = frozenset(("model", "messages", "stream", "stream_options", "extra_headers", "extra_query", "extra_body"))
"""Parameters that a request does not decide."""
_BROKEN = (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError)


@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """One model of one Chat Completions API, as an `Upstream`."""

    spec: ModelSpec
    client: openai.AsyncOpenAI
    budget: RetryBudget

    async def __call__(self, request: GenerationRequest, context: AgentContext, sink: Sink) -> None:
        """Give the answer to `sink`; raise `UpstreamError` if it cannot be had or breaks."""
        fields = {"chat_id": context.ref.chat_id, "message_id": context.ref.message_id, "attempt": context.attempt}
        await with_retries(lambda: self._once(request, context, sink), sink, self.budget, fields)

    async def _once(self, request: GenerationRequest, context: AgentContext, sink: Sink) -> None:
        chunks, splitter = ChatEvents(), SseSplitter()
        try:
            async with self._body_of_call(request, context) as pieces:
                async for piece in pieces:
                    for data in splitter.feed(piece):
                        if (events := chunks.feed(data)) and (room := sink.take(events)) is not None:
                            await room
                    if chunks.finished or chunks.done:
                        break
                else:
                    for data in splitter.close():
                        await give(sink, chunks.feed(data))
                if chunks.finished and not chunks.done:
                    await give(sink, await _trailer(pieces, splitter, chunks))
        finally:
            if chunks.usage is not None:
                context.add_usage(chunks.usage)
        await give(sink, chunks.close())

    @asynccontextmanager
    async def _body_of_call(
        self, request: GenerationRequest, context: AgentContext
    ) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
        try:
            async with (
                self.client.chat.completions.with_streaming_response.create(
                    model=self.spec.model,
                    messages=[],
                    stream=True,
                    extra_body=self._body(request),
                    extra_headers=context.headers,
                ) as response,
                body_of(response) as pieces,
            ):
                yield pieces
        except EventTooLong:
            raise UpstreamError("upstream_error", "The model sent an event beyond any reason.") from None
        except _BROKEN as error:
            raise from_sdk(error, time.time()) from None

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        body = {key: value for key, value in request.params.items() if key not in OURS}
        options = request.params.get("stream_options")
        body["messages"] = request.messages
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        return body


async def _trailer(pieces: AsyncGenerator[bytes, None], splitter: SseSplitter, chunks: ChatEvents) -> list[Event]:
    """Read on after the model's last word, for usage; what breaks there breaks nothing. Returns late content."""
    late: list[Event] = []
    with suppress(*_BROKEN, EventTooLong, TimeoutError):
        async with asyncio.timeout(TRAILER_S):
            async for piece in pieces:
                for data in splitter.feed(piece):
                    late += chunks.feed(data)
                if chunks.done:
                    return late
            for data in splitter.close():
                late += chunks.feed(data)
    return late
