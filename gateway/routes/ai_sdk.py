"""Owns the AI SDK's endpoints: `POST /api/chat`, its stream and its stop, as `useChat`'s transports call them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.access.principal import Principal
from gateway.bodies import parse, read_body
from gateway.live.finding import find_message
from gateway.live.streaming import LogStream
from gateway.protocols.base import Wire
from gateway.protocols.ui_message_stream import DONE, UI, UI_STEPS
from gateway.routes.request import NO_STORE, context, json_answer, path_text
from gateway.routes.streams import StartedStream, check_room, has_room, retry_ms, turn_away
from gateway.routes.table import Operation, Parameter
from gateway.services import Services
from gateway.stop import StopState, stop
from gateway.ui.ui_chat import UiChatBody, begin
from gateway.ui.ui_latest import base_of, find_latest, is_named, undelivered
from gateway.ui.ui_position import (
    CURSOR_PATTERN,
    Place,
    UiCursor,
    at_index,
    behind,
    from_start,
    parse_run_id,
    run_id,
)
from shared.errors import Gone, InvalidCursor, NotFound
from shared.ids import MessageRef, check_id

CHAT = "/api/chat"
ONE = f"{CHAT}/{{chat_id:path}}"
NOTHING_LEFT = b'data: {"type":"finish"}\n\n' + DONE
"""For a client that cannot be told 204: it asks again until it sees `finish`."""


class StopBody(Struct):
    """Which stream to stop; without one, all that is in flight."""

    activeStreamId: Annotated[
        str | None, Meta(description="The id of the message or run. Another one's stop is ignored.")
    ] = None


class ChatStopAnswer(Struct, frozen=True):
    """Whether there was something to stop, and how it stands: of several, the youngest that has not confirmed."""

    stopped: bool
    state: StopState | None = None
    message_id: str | None = None


async def send(request: Request) -> Response | ASGIApp:
    services, who = context(request)
    raw = await read_body(request, services.settings)
    body = parse(raw, UiChatBody)
    check_room(services)
    started = await begin(services, who, body, idempotency_key=request.headers.get("idempotency-key"))
    if started.cursor is None:
        raise Gone("the replay period is over; the final message can still be read")
    base = await base_of(services, started.ref)
    wire = _wire(request)
    place = await from_start(services.log, started.ref, wire, skip=base) if started.existed else Place(wire, base)
    return StartedStream(_admitted(services, started.ref, place, {"x-workflow-run-id": run_id(started.ref, base)}))


async def follow(request: Request) -> Response | ASGIApp:
    services, who = context(request)
    index = _start_index(request)
    if index is not None:
        return await _follow_index(services, who, path_text(request, "chat_id"), index)
    chat_id = check_id("chat", path_text(request, "chat_id"))
    cursor = _cursor(request)
    if cursor is None:
        ref = await undelivered(services, who, chat_id)
        place = None if ref is None else await from_start(services.log, ref, _wire(request))
    else:
        ref = who.ref(chat_id, cursor.message_id)
        await find_message(services.hub, ref, patient=True)
        place = await behind(services.log, ref, _wire(request), cursor)
    if ref is None or place is None or place.over:
        return Response(status_code=204, headers=NO_STORE)
    return _stream(services, ref, place)


async def _follow_index(services: Services, who: Principal, name: str, index: int) -> Response | ASGIApp:
    """Serve a client that counts chunks; it names the run, or after a reload the chat."""
    run = parse_run_id(who, name)
    if run is not None:
        ref, base = run
        await find_message(services.hub, ref, patient=True)
    else:
        chat_id = check_id("chat", name)
        find = find_latest if index > 0 else undelivered
        found = await find(services, who, chat_id)
        if found is None:
            return _nothing_left()
        ref, base = found, 0
    place = await at_index(services.log, ref, index, base)
    if place.over:
        return _nothing_left()
    return _stream(services, ref, place, {"x-workflow-stream-tail-index": str(place.count - base - 1)})


async def halt(request: Request) -> Response:
    services, who = context(request)
    chat_id = check_id("chat", path_text(request, "chat_id"))
    raw = await read_body(request, services.settings)
    wanted = parse(raw, StopBody).activeStreamId if raw.strip() else None
    refs = [who.ref(chat_id, message_id) for message_id in await services.log.in_flight(who.scope, chat_id)]
    if wanted is not None:
        refs = [ref for ref in refs if await is_named(services, who, ref, wanted)]
    return json_answer(_halted(await asyncio.gather(*(_halt_one(services, who, ref) for ref in refs))))


async def _halt_one(services: Services, who: Principal, ref: MessageRef) -> ChatStopAnswer:
    try:
        state = await stop(services, who, ref)
    except (NotFound, Gone):
        return ChatStopAnswer(stopped=False)
    return ChatStopAnswer(stopped=True, state=state, message_id=ref.message_id)


def _halted(answers: list[ChatStopAnswer]) -> ChatStopAnswer:
    """Return the youngest one's answer, oldest first; one that is not confirmed yet goes before all that are."""
    stopped = [answer for answer in answers if answer.stopped]
    waiting = [answer for answer in stopped if answer.state == "stopping"]
    return (waiting or stopped or [ChatStopAnswer(stopped=False)])[-1]


def _stream(services: Services, ref: MessageRef, place: Place, headers: dict[str, str] | None = None) -> ASGIApp:
    if not has_room(services):
        return turn_away
    return _admitted(services, ref, place, headers)


def _admitted(services: Services, ref: MessageRef, place: Place, headers: dict[str, str] | None) -> ASGIApp:
    retry = retry_ms(services)
    return LogStream(services.hub, ref, wire=place.wire, skip=place.skip, headers=headers, retry_ms=retry)


def _nothing_left() -> Response:
    return Response(NOTHING_LEFT, headers=dict(UI.headers))


def _wire(request: Request) -> Wire:
    return UI_STEPS if request.query_params.get("reset") == "step" else UI


def _start_index(request: Request) -> int | None:
    text = request.query_params.get("startIndex")
    if text is None:
        return None
    if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit() or len(text) > 10:
        raise InvalidCursor("startIndex is a whole number")
    return int(text)


def _cursor(request: Request) -> UiCursor | None:
    """Read `Last-Event-ID`, which wins, or `?after=`. An EventSource takes errors for good, so its header is none."""
    header = request.headers.get("last-event-id")
    if header:
        try:
            return UiCursor.parse(header)
        except InvalidCursor:
            return None
    query = request.query_params.get("after")
    return None if query is None else UiCursor.parse(query)


_RESET = Parameter(
    "reset", "query", "`step`: say in the stream that what was said is void (ai 7.0.112 or later).", choices=("step",)
)
_KEY = Parameter("Idempotency-Key", "header", "Names the start: the same key again is the same message.")
_ERRORS = (400, 404, 410, 503)

OPERATIONS = (
    Operation(
        name="ai_sdk_send",
        method="POST",
        path=CHAT,
        handler=send,
        summary="Start an answer and stream it, for the AI SDK's chat transports.",
        answers={200: ("stream",)},
        errors=(*_ERRORS, 408, 409, 413, 415, 429),
        body=UiChatBody,
        parameters=(_RESET, _KEY),
    ),
    Operation(
        name="ai_sdk_stream",
        method="GET",
        path=f"{ONE}/stream",
        handler=follow,
        summary="The chat's answer in flight from its first chunk, or behind a cursor; 204 once all was delivered.",
        answers={200: ("stream",), 204: ("empty",)},
        errors=_ERRORS,
        parameters=(
            Parameter("after", "query", "Begin behind this chunk.", CURSOR_PATTERN),
            Parameter("Last-Event-ID", "header", "As `after`, and wins over it."),
            Parameter("startIndex", "query", "How many chunks to leave out; negative: begin so many before the end."),
            _RESET,
        ),
    ),
    Operation(
        name="ai_sdk_stop",
        method="POST",
        path=f"{ONE}/stop",
        handler=halt,
        summary="Stop the chat's answers in flight, or the one named; what they have so far is kept.",
        answers={200: (ChatStopAnswer,)},
        errors=(*_ERRORS, 408, 413, 415),
        body=StopBody,
    ),
)
