"""Owns the operation that lists what a caller has in flight, over all chats."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from gateway.reading import ActiveView, read_active
from gateway.routes.request import context, json_answer
from gateway.routes.table import Operation


async def view_active(request: Request) -> Response:
    services, who = context(request)
    return json_answer(await read_active(services, who))


OPERATIONS = (
    Operation(
        name="view_active",
        method="GET",
        path="/active",
        handler=view_active,
        summary="The caller's messages in flight.",
        answers={200: (ActiveView,)},
        errors=(503,),
    ),
)
