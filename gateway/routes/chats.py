"""Owns the native operations on chats and messages: start, stream, read, stop, delete."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.bodies import StartBody, parse_start, read_body
from gateway.delete import delete
from gateway.live.finding import look_patiently
from gateway.reading import (
    ChatView,
    CursorText,
    MessageView,
    chat_stream,
    read_chat,
    read_message,
    stream_url,
    why_missing,
)
from gateway.routes.request import (
    NO_STORE,
    STREAM_PARAMETERS,
    Position,
    context,
    json_answer,
    message_ref,
    path_id,
    position_of,
)
from gateway.routes.streams import ResumedStream, StartedStream, admitted, check_room, stream, turn_away
from gateway.routes.table import Operation, Parameter
from gateway.start import Started, start
from gateway.stop import StopState, stop
from shared.errors import Gone, Unavailable
from shared.ids import MAX_ID_BYTES
from shared.jobs import GenerationRequest
from shared.message import MessageState

CHAT = "/chats/{chat_id}"
MESSAGES = f"{CHAT}/messages"
MESSAGE = f"{MESSAGES}/{{message_id}}"


class StartedAnswer(Struct, frozen=True):
    """A message that has been started, now or by the same request before."""

    chat_id: str
    message_id: str
    cursor: CursorText
    state: MessageState
    stream_url: str


class StopAnswer(Struct, frozen=True):
    """How a message stands after a stop."""

    chat_id: str
    message_id: str
    state: Annotated[StopState, Meta(description="stopping: told, and not yet confirmed by its worker.")]


async def start_message(request: Request) -> Response | ASGIApp:
    services, who = context(request)
    chat_id = path_id(request, "chat_id")
    raw = await read_body(request, services.settings)
    body = parse_start(raw)
    streams = "text/event-stream" in request.headers.get("accept", "")
    if streams:
        check_room(services)
    started = await start(
        services,
        who,
        chat_id,
        GenerationRequest(body.model, body.messages, body.params, metadata=body.metadata),
        message_id=body.message_id,
        idempotency_key=request.headers.get("idempotency-key"),
        policy=body.policy,
    )
    url = stream_url(started.ref)
    if streams:
        return StartedStream(admitted(services, started.ref, Position(), {"location": url}))
    return json_answer(_started(started, url), 202, {"location": url})


def _started(started: Started, url: str) -> StartedAnswer:
    if started.state == "deleted":
        raise Gone("the message was deleted")
    cursor = None if started.cursor is None else str(started.cursor)
    return StartedAnswer(started.ref.chat_id, started.ref.message_id, cursor, started.state, url)


async def view_chat(request: Request) -> Response:
    services, who = context(request)
    return json_answer(await read_chat(services, who, path_id(request, "chat_id")))


async def stream_chat(request: Request) -> Response | ASGIApp:
    services, who = context(request)
    position = position_of(request)
    chat_id = path_id(request, "chat_id")
    try:
        ref = await look_patiently(services.hub, lambda: chat_stream(services, who, chat_id, position.after))
    except Unavailable:
        return turn_away
    if ref is None:
        return Response(status_code=204, headers=NO_STORE)
    return ResumedStream(stream(services, ref, position))


async def view_message(request: Request) -> Response:
    services, who = context(request)
    return json_answer(await read_message(services, who, message_ref(request, who)))


async def stream_message(request: Request) -> Response | ASGIApp:
    services, who = context(request)
    return ResumedStream(stream(services, message_ref(request, who), position_of(request)))


async def stop_message(request: Request) -> Response:
    services, who = context(request)
    ref = message_ref(request, who)
    state = await stop(services, who, ref)
    return json_answer(StopAnswer(ref.chat_id, ref.message_id, state), 202 if state == "stopping" else 200)


async def delete_message(request: Request) -> Response:
    services, who = context(request)
    ref = message_ref(request, who)
    if not await delete(services, who, ref):
        with suppress(Gone):
            raise await why_missing(services, who, ref)
    return Response(status_code=204, headers=NO_STORE)


_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Names the start: the same key again is the same message, with another body a 409.",
    lengths=(1, MAX_ID_BYTES),
)
_ACCEPT = Parameter("Accept", "header", "With `text/event-stream` the answer is the stream itself.")

OPERATIONS = (
    Operation(
        name="start_message",
        method="POST",
        path=MESSAGES,
        handler=start_message,
        summary="Start an answer.",
        answers={202: (StartedAnswer,), 200: ("stream",)},
        errors=(400, 408, 409, 410, 413, 415, 429, 503),
        body=StartBody,
        parameters=(_KEY, _ACCEPT),
    ),
    Operation(
        name="view_chat",
        method="GET",
        path=CHAT,
        handler=view_chat,
        summary="What is in flight in a chat.",
        answers={200: (ChatView,)},
        errors=(400, 503),
    ),
    Operation(
        name="stream_chat",
        method="GET",
        path=f"{CHAT}/stream",
        handler=stream_chat,
        summary="The stream of the chat's youngest message in flight, or of the one that the cursor is in while that "
        "is in flight or the latest; 204 if there is nothing more to deliver.",
        answers={200: ("stream",), 204: ("empty",)},
        errors=(400, 404, 410, 503),
        parameters=STREAM_PARAMETERS,
    ),
    Operation(
        name="view_message",
        method="GET",
        path=MESSAGE,
        handler=view_message,
        summary="A message, as far as it has come.",
        answers={200: (MessageView,)},
        errors=(400, 404, 410, 503),
    ),
    Operation(
        name="delete_message",
        method="DELETE",
        path=MESSAGE,
        handler=delete_message,
        summary="Forget a message's content, in flight or not.",
        answers={204: ("empty",)},
        errors=(400, 404, 503),
    ),
    Operation(
        name="stream_message",
        method="GET",
        path=f"{MESSAGE}/stream",
        handler=stream_message,
        summary="A message's stream: what it has so far, then the rest as it comes; 204 once all was delivered.",
        answers={200: ("stream",), 204: ("empty",)},
        errors=(400, 404, 410, 503),
        parameters=STREAM_PARAMETERS,
    ),
    Operation(
        name="stop_message",
        method="POST",
        path=f"{MESSAGE}/stop",
        handler=stop_message,
        summary="Stop a message; what it has so far is kept. 202 until its worker has confirmed.",
        answers={200: (StopAnswer,), 202: (StopAnswer,)},
        errors=(400, 404, 410, 503),
    ),
)
