"""Owns how a route answers with a stream: admission, the delay told before reconnects, trouble after a start."""

from __future__ import annotations

import random

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.live.streaming import LogStream
from gateway.live.transport import break_off
from gateway.routes.request import Position
from gateway.services import Services
from shared.errors import NotFound, Overloaded, StartUncertain, Unavailable
from shared.ids import MessageRef

FULL_RETRY_MS = 5000


def has_room(services: Services) -> bool:
    """Whether one more viewer is taken."""
    return len(services.hub.viewers) < services.settings.max_viewers


def retry_ms(services: Services) -> int:
    """Return the delay to tell a viewer; viewers that were cut off together must not all come back together."""
    return int(services.settings.retry_ms * random.uniform(1.0, 2.0))


def check_room(services: Services) -> None:
    """Raise `Overloaded` if no more viewers are taken; asked before anything is started for one.

    A request that waits for the whole answer follows the log as a stream does, and counts as one.
    """
    if not has_room(services):
        raise Overloaded("this gateway serves as many streams as it may; try again")


def stream(services: Services, ref: MessageRef, position: Position) -> ASGIApp:
    """Return the native stream of a message, if there is room for one more viewer."""
    if not has_room(services):
        return turn_away
    return admitted(services, ref, position)


def admitted(services: Services, ref: MessageRef, position: Position, headers: dict[str, str] | None = None) -> ASGIApp:
    """Return the native stream of a message to a viewer for whom room was found before (`check_room`)."""
    return LogStream(services.hub, ref, headers=headers, retry_ms=retry_ms(services), **position.options())


async def turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell a viewer to come back later, in the only way that an EventSource does not take for good: a broken stream."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    retry = int(FULL_RETRY_MS * random.uniform(1.0, 2.0))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"retry: %d\n: full\n\n" % retry, "more_body": True})
    await break_off(scope, receive)


class ResumedStream:
    """The stream that answers a viewer's GET: while Redis is away it is a broken one, not an error.

    An EventSource takes any other status than 200 for good, in the middle of an outage that lasts seconds.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._inner(scope, receive, note)
        except Unavailable:
            if begun:
                raise
            await turn_away(scope, receive, send)


class StartedStream:
    """The stream that answers a start. The start has happened: a client must not be told to repeat it."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._inner(scope, receive, send)
        except (Unavailable, NotFound):  # not found: a failover has lost it since
            raise StartUncertain("the message was started; its stream is not available now") from None
