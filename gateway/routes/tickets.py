"""Owns the operation that gives out tickets for EventSource and WebSocket."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.tickets import Use
from gateway.bodies import parse, read_body
from gateway.reading import find, stream_url
from gateway.routes.request import context, json_answer
from gateway.routes.table import Operation


class TicketBody(Struct, forbid_unknown_fields=True):
    """What `POST /tickets` takes."""

    use: Annotated[Use, Meta(description="stream: one message's stream; feed: `GET /feed`; socket: `/ws`.")]
    chat_id: Annotated[str, Meta(description="With `stream`.")] = ""
    message_id: Annotated[str, Meta(description="With `stream`.")] = ""


class TicketAnswer(Struct, frozen=True):
    """A ticket, and the path that it opens."""

    ticket: str
    expires_at: Annotated[int, Meta(description="Unix seconds. Until then it may be used any number of times.")]
    url: Annotated[str, Meta(description="The path with the ticket in it.")]


async def issue_ticket(request: Request) -> Response:
    services, who = context(request)
    raw = await read_body(request, services.settings, most_bytes=16_384)
    body = parse(raw, TicketBody)
    ticket, until = await services.tickets.issue(who, body.use, body.chat_id, body.message_id)
    path = {"feed": "/feed", "socket": "/ws"}.get(body.use)
    if path is None:
        ref = who.ref(body.chat_id, body.message_id)
        await find(services, who, ref)  # a ticket for somebody else's message would open nothing
        path = stream_url(ref)
    return json_answer(TicketAnswer(ticket, until, f"{path}?ticket={ticket}"))


OPERATIONS = (
    Operation(
        name="issue_ticket",
        method="POST",
        path="/tickets",
        handler=issue_ticket,
        summary="A short-lived ticket for a stream, the feed or the socket, where no header can be sent.",
        answers={200: (TicketAnswer,)},
        errors=(400, 404, 408, 410, 413, 415, 503),
        body=TicketBody,
    ),
)
