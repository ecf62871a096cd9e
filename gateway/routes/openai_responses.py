"""Owns the operations on `/v1/responses`, as OpenAI's SDKs call them: create, retrieve, cancel, delete, input items.

A response is a message in a chat of its own, both named by the response's id: the id alone finds the log on every
gateway. Its stream can be had again and again for the whole replay period, from any event.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.access.principal import Principal
from gateway.bodies import check_grown
from gateway.delete import delete
from gateway.live.finding import restoring_s
from gateway.live.waiting import wait_end
from gateway.openai.openai_errors import ApiError
from gateway.openai.openai_request import new_id, place_headers, read_json, repeatable
from gateway.openai.openai_streams import once_started, patience, stream_from, whole_message
from gateway.openai.responses_input import InputReader
from gateway.openai.responses_input_items import input_items
from gateway.openai.responses_request import ResponsesBody, ResponsesRequest, params_for, read_request
from gateway.openai.responses_stored import WIRE, Stored, earlier_messages, find_response, missing
from gateway.protocols.responses_object import ResponseObject, response_of
from gateway.reading import read_message
from gateway.routes.openai_chat import CLIENT_LEFT, KEY
from gateway.routes.request import context, json_answer, path_id
from gateway.routes.streams import StartedStream, check_room
from gateway.routes.table import Operation, Parameter
from gateway.services import Services
from gateway.start import Started, start
from gateway.stop import stop
from shared.jobs import GenerationRequest
from shared.message import Message

RESPONSES = "/v1/responses"
RESPONSE = f"{RESPONSES}/{{response_id}}"
NUMBER_PATTERN = "^[0-9]{1,15}$"
_NUMBER = re.compile(NUMBER_PATTERN, re.ASCII)
MOST_ITEMS = 100


class DeletedResponse(Struct, frozen=True):
    """A response that has been deleted."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class ItemList(Struct, frozen=True):
    """Input items of a response."""

    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


async def create_response(request: Request) -> Response | ASGIApp:
    services, who = context(request)
    until = patience(request, services)
    asked = read_request(await read_json(request, services))
    if asked.body.stream or not asked.options.background:
        check_room(services)
    generation = await _generation(services, who, asked)
    response_id = new_id(request, who, "resp_")
    started = await start(
        services, who, response_id, generation, message_id=response_id, repeatable=repeatable(request)
    )
    if started.state == "deleted":
        raise missing(response_id)
    with once_started(request, started.ref):
        return await _created(request, services, who, asked, started, until)


async def _created(
    request: Request, services: Services, who: Principal, asked: ResponsesRequest, started: Started, until: float
) -> Response | ASGIApp:
    ref, options = started.ref, asked.options
    if asked.body.stream:
        # A while after its end was delivered. One whose client leaves before stays until its retention is over.
        forget = None if options.store else partial(services.forgetter.later, ref)
        have = None if started.existed else 0
        return StartedStream(await stream_from(services, ref, WIRE, have, on_over=forget))
    if options.background:
        message: Message | None = (await read_message(services, who, ref)).message
    else:
        message = await whole_message(request, services, ref, until)
    if message is None:
        return Response(status_code=CLIENT_LEFT)
    if not options.store:
        services.forgetter.later(ref)
    return json_answer(response_of(message, options), headers=place_headers(ref))


async def _generation(services: Services, who: Principal, asked: ResponsesRequest) -> GenerationRequest:
    body = asked.body
    before = body.previous_response_id
    spec = services.models.get(services.models.choose(body.model))
    params = asked.params if spec is None else params_for(asked, spec.kind)
    earlier = [] if before is None else await earlier_messages(services, who, before, asked.answered)
    reader = InputReader(services, who)
    generation = GenerationRequest(
        model=body.model or "",
        messages=await reader.read(earlier, body.instructions, asked.given),
        params=params,
        wire=WIRE,
        options=msgspec.to_builtins(asked.options),
        metadata=dict(asked.options.metadata),
    )
    if before is not None or reader.references:
        check_grown(generation.messages, services.settings)
    return generation


async def _find(request: Request, *, patient: bool = False) -> tuple[Services, Principal, Stored]:
    services, who = context(request)
    stored = await find_response(services, who, path_id(request, "response_id"), patient=patient)
    if stored.meta.terminal and not stored.options.store:
        raise missing(stored.ref.message_id)
    return services, who, stored


async def _answer(services: Services, who: Principal, stored: Stored) -> Response:
    view = await read_message(services, who, stored.ref)
    return json_answer(response_of(view.message, stored.options), headers=place_headers(stored.ref))


async def retrieve_response(request: Request) -> Response | ASGIApp:
    have, streamed = _have(request), request.query_params.get("stream", "").lower() in ("true", "1")
    services, who, stored = await _find(request, patient=streamed and have is not None)
    if not streamed:
        return await _answer(services, who, stored)
    check_room(services)
    return await stream_from(services, stored.ref, WIRE, have)


def _have(request: Request) -> int | None:
    """Return how many events the client has; None if it does not say."""
    text = request.query_params.get("starting_after")
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        message = "'starting_after' is the sequence_number of an event."
        raise ApiError(400, message, code="invalid_value", param="starting_after")
    return int(text) + 1


async def cancel_response(request: Request) -> Response:
    services, who, stored = await _find(request)
    if await stop(services, who, stored.ref) == "stopping":
        # Its worker confirms, or loses its lease: nobody is told "cancelled" while it may still be writing.
        until = asyncio.get_running_loop().time() + restoring_s(services.hub)
        await wait_end(services.hub, stored.ref, request.receive, until=until)
    return await _answer(services, who, stored)


async def delete_response(request: Request) -> Response:
    services, who, stored = await _find(request)
    if not await delete(services, who, stored.ref):
        raise missing(stored.ref.message_id)
    return json_answer(DeletedResponse(stored.ref.message_id))


async def list_input_items(request: Request) -> Response:
    _, _, stored = await _find(request)
    query = request.query_params
    order, after = query.get("order", "desc"), query.get("after")
    limit = query.get("limit", "20")
    if order not in ("asc", "desc"):
        raise ApiError(400, "'order' is asc or desc.", code="invalid_value", param="order")
    if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= MOST_ITEMS:
        raise ApiError(400, f"'limit' is a number from 1 to {MOST_ITEMS}.", code="invalid_value", param="limit")
    items = input_items(stored.request, stored.ref.message_id)
    if order == "desc":
        items.reverse()
    if after is not None:
        places = [at for at, item in enumerate(items) if item["id"] == after]
        if not places:
            raise ApiError(400, "'after' is no item of this response.", code="invalid_value", param="after")
        items = items[places[0] + 1 :]
    page = items[: int(limit)]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return json_answer(ItemList(page, first, last, len(items) > len(page)))


_STREAM = Parameter("stream", "query", "`true`: its events, then the rest as they come.", choices=("true", "false"))
_AFTER = Parameter("starting_after", "query", "Only events of a higher `sequence_number`.", NUMBER_PATTERN)
_PAGING = (
    Parameter("order", "query", "Newest first unless `asc`.", choices=("asc", "desc")),
    Parameter("after", "query", "Go on behind this item."),
    Parameter("limit", "query", f"Items at a time, 1 to {MOST_ITEMS}.", NUMBER_PATTERN),
)

OPERATIONS = (
    Operation(
        name="create_response",
        method="POST",
        path=RESPONSES,
        handler=create_response,
        summary="Responses of OpenAI's API; leaving does not stop the answer.",
        answers={200: (ResponseObject, "stream")},
        errors=(400, 404, 408, 409, 410, 413, 415, 422, 429, 502, 503, 504),
        body=ResponsesBody,
        parameters=(KEY,),
    ),
    Operation(
        name="retrieve_response",
        method="GET",
        path=RESPONSE,
        handler=retrieve_response,
        summary="A response as far as it has come, or its stream from any event on.",
        answers={200: (ResponseObject, "stream")},
        errors=(400, 404, 410, 503),
        parameters=(_STREAM, _AFTER),
    ),
    Operation(
        name="delete_response",
        method="DELETE",
        path=RESPONSE,
        handler=delete_response,
        summary="Forget a response, in flight or not.",
        answers={200: (DeletedResponse,)},
        errors=(400, 404, 503),
    ),
    Operation(
        name="cancel_response",
        method="POST",
        path=f"{RESPONSE}/cancel",
        handler=cancel_response,
        summary="Stop a response; what it has so far is kept. Of one that is over, nothing changes.",
        answers={200: (ResponseObject,)},
        errors=(400, 404, 410, 503),
    ),
    Operation(
        name="list_input_items",
        method="GET",
        path=f"{RESPONSE}/input_items",
        handler=list_input_items,
        summary="What a response was given.",
        answers={200: (ItemList,)},
        errors=(400, 404, 503),
        parameters=_PAGING,
    ),
)
