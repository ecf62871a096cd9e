"""Owns the operation that tells a user's tabs and devices what starts and ends, as server-sent events."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.live.expiry import UntilExpiry
from gateway.live.feed_viewer import FeedViewer, Lines
from gateway.live.http_sink import HttpSink
from gateway.live.transport import break_off, until_left
from gateway.protocols import native
from gateway.protocols.base import SSE_HEADERS
from gateway.routes.request import context
from gateway.routes.streams import has_room, retry_ms, turn_away
from gateway.routes.table import Operation, Parameter
from gateway.services import Services


def encode_lines(lines: Lines) -> bytes:
    """Return feed lines as SSE events."""
    return b"".join(
        b"data: %b\n\n" % data if cursor is None else native.frame(cursor.encode(), data) for cursor, data in lines
    )


class FeedStream:
    """An ASGI response without end: breaks off when it rotates, so that no client takes a pause for the end."""

    def __init__(self, services: Services, scope: str, after: str | None) -> None:
        self._services = services
        self._user = scope
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services = self._services
        sink = HttpSink(scope, send, SSE_HEADERS, b"retry: %d\n" % retry_ms(services), direct=False)
        viewer = FeedViewer(services.hub, services.feed, self._user, sink, encode_lines, after=self._after)
        await sink.send(b": feed\n")  # the headers: a feed with nothing in it must still open
        async with until_left(receive, lambda: viewer.stop("left")):
            with services.hub.watching(viewer), UntilExpiry(scope, viewer) as expiry:
                outcome = await viewer.run()
                if outcome == "broken" and expiry.last_words:
                    await sink.send(expiry.last_words)
            if outcome == "broken":
                await break_off(scope, receive)


async def stream_feed(request: Request) -> ASGIApp:
    services, who = context(request)
    if not has_room(services):
        return turn_away
    after = request.headers.get("last-event-id") or request.query_params.get("after") or None
    return FeedStream(services, who.scope, after)


OPERATIONS = (
    Operation(
        name="stream_feed",
        method="GET",
        path="/feed",
        handler=stream_feed,
        summary="What starts and ends among the caller's messages: the latest of it, then the rest as it comes.",
        answers={200: ("stream",)},
        errors=(503,),
        parameters=(
            Parameter(
                "Last-Event-ID",
                "header",
                "Go on behind this line; a `reset` comes first if lines in between are no longer kept.",
            ),
            Parameter("after", "query", "As the header, for a first connection."),
        ),
    ),
)
