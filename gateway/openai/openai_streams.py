"""Owns how `/v1` delivers a message: as a stream of its wire, from the right event on, or whole at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import ASGIApp

from gateway.live.finding import restoring_s
from gateway.live.streaming import LogStream
from gateway.live.waiting import wait_end
from gateway.openai.openai_errors import ApiError, generation_error
from gateway.openai.openai_request import place_headers, repeatable
from gateway.protocols import WIRES
from gateway.protocols.base import LastBlock
from gateway.protocols.openai_common import failure_of
from gateway.services import Services
from shared.errors import Unavailable
from shared.ids import MessageRef
from shared.log.log import Log
from shared.message import Message, decode_message

_TIMEOUT_HEADERS = ("x-stainless-read-timeout", "x-stainless-timeout")
"""How long the SDKs (Python, Node) say that they will wait, in seconds."""


@contextmanager
def once_started(request: Request, ref: MessageRef) -> Iterator[None]:
    """Keep a Redis that is away from looking like a start that did not happen: no SDK may repeat it by itself."""
    try:
        yield
    except Unavailable:
        message = f"The answer {ref.message_id} was started, and goes on; it cannot be read now."
        headers = place_headers(ref)
        raise ApiError(503, message, code="still_running", should_retry=repeatable(request), headers=headers) from None


async def stream_from(
    services: Services,
    ref: MessageRef,
    wire: str,
    have: int | None = None,
    *,
    on_over: Callable[[], object] | None = None,
) -> ASGIApp:
    """Return the stream of a message on `wire`, for a client that has `have` events; None: from the beginning.

    The beginning is that of the latest attempt that was begun anew: nobody new is shown void text. `on_over`: as
    `LogStream` takes it.
    """
    skip = await _fresh(services.log, ref, wire) if have is None else have
    return LogStream(services.hub, ref, wire=wire, skip=skip, headers=place_headers(ref), on_over=on_over)


async def _fresh(log: Log, ref: MessageRef, wire: str) -> int:
    """Return how many events lie before the latest beginning. Page by page: a long log must not hold up others."""
    if not await log.was_taken_over(ref):
        return 0
    encoder = WIRES[wire].make()
    count = begin = 0
    async for page in log.pages(ref):
        for entry in page:
            for block in encoder.encode(entry):
                count += 1
                begin = count if isinstance(block, LastBlock) else begin
    return begin


def patience(request: Request, services: Services) -> float:
    """Return the loop time until which to wait; asked as soon as the request is here.

    Just before the client gives up: it would then start a second generation, of which we could not hear in time.
    """
    settings = services.settings
    longest = float(settings.message_deadline_s + restoring_s(services.hub))
    for name in _TIMEOUT_HEADERS:
        try:
            told = float(request.headers.get(name, ""))
        except ValueError:
            continue
        if told > 0:  # also refuses nan
            longest = min(longest, told - min(5.0, max(told / 10, min(1.0, told / 2))))
    return asyncio.get_running_loop().time() + longest


async def whole_message(request: Request, services: Services, ref: MessageRef, until: float) -> Message | None:
    """Wait for the message's end and return it, None if nobody is left to take it; raise `ApiError` if it failed."""
    headers = place_headers(ref)
    waited = await wait_end(services.hub, ref, request.receive, until=until)
    if waited == "left":
        return None
    if waited != "ended":
        late = waited == "late"
        message = f"The answer {ref.message_id} is still being written, and goes on; this request waits no longer."
        raise ApiError(
            504 if late else 503, message, code="still_running", should_retry=repeatable(request), headers=headers
        )
    final = await services.log.final(ref)
    if final is None:
        raise ApiError(410, "The answer was deleted or is no longer kept.", code="gone", headers=headers)
    answer = decode_message(final)
    if (failure := failure_of(answer)) is not None:
        raise generation_error(failure, headers)
    return answer
