"""Owns the operation that reads back what a message was asked: with its answer, a chat can be shown anywhere."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.reading import find, why_missing
from gateway.routes.chats import MESSAGE
from gateway.routes.request import context, json_answer, message_ref
from gateway.routes.table import Operation
from shared.jobs import decode_request


class RequestView(Struct, frozen=True):
    """What a message was asked, as it was stored with it."""

    chat_id: str
    message_id: str
    model: str
    messages: Annotated[list[dict[str, Any]], Meta(description="The conversation before this message.")]
    params: dict[str, Any]
    metadata: dict[str, Any]


async def view_request(request: Request) -> Response:
    services, who = context(request)
    ref = message_ref(request, who)
    await find(services, who, ref)
    raw = await services.log.request(ref)
    if raw is None:
        raise await why_missing(services, who, ref)
    asked = decode_request(raw)
    return json_answer(
        RequestView(ref.chat_id, ref.message_id, asked.model, asked.messages, asked.params, asked.metadata)
    )


OPERATIONS = (
    Operation(
        name="view_request",
        method="GET",
        path=f"{MESSAGE}/request",
        handler=view_request,
        summary="What a message was asked: the conversation before it and the parameters.",
        answers={200: (RequestView,)},
        errors=(400, 404, 410, 503),
    ),
)
