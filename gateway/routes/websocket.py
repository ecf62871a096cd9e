"""Owns `/ws`: admits a WebSocket and hands it to its session."""

from __future__ import annotations

from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from gateway.access.auth import close_at_once, principal_of
from gateway.protocols.websocket import COME_BACK_LATER
from gateway.routes.streams import has_room
from gateway.services import Services
from gateway.socket_session import SocketSession


class SocketEndpoint:
    """The ASGI application behind `/ws`. Whose a socket is was decided before it got here."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services = scope["state"]["services"]
        assert isinstance(services, Services)
        who = principal_of(WebSocket(scope, receive, send))
        if not has_room(services):
            await close_at_once(scope, receive, send, COME_BACK_LATER, "overloaded")
            return
        await SocketSession(services, who, scope, receive, send).run()


ROUTE = WebSocketRoute("/ws", SocketEndpoint())
