"""Owns the ASGI wrappers between the server and the routes, but for errors and authentication."""

from __future__ import annotations

import re
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.auth import METRICS
from gateway.settings import GatewaySettings, is_loopback
from shared.errors import HostNotAllowed

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
PROBES = frozenset(("/healthz", "/readyz"))


class RawPath:
    """Routes by the path as it was sent.

    Servers decode percent-escapes before routing, and then `/chats/a%2Fb` and `/chats/a/b` are the same path.
    Ids are any text, slashes included, so splitting comes first and decoding after it (`routes.request`).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw: bytes | None = scope.get("raw_path")
        if raw is not None:
            scope["path"] = raw.partition(b"?")[0].decode("latin-1")
        await self._app(scope, receive, send)


class HostGuard:
    """Answers only to names that it knows, so that no web page can reach an open gateway through a browser.

    Listening on loopback keeps other machines out, not other people's pages: a page can point its own name at
    127.0.0.1 (DNS rebinding) and then read answers as its own origin, or post blindly across origins. Without
    authentication both are refused: `Host`, and `Origin` where there is one, must name this machine.

    Probes come under any name, as does whoever collects metrics, by a pod's address. A page can read those only where
    they ask for nothing, so only there they are guarded.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._open = settings.open
        self._hosts = settings.hosts
        self._origins = frozenset(settings.origins)
        self._metrics_ask = not settings.open or bool(settings.metrics_token.get_secret_value())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not self._any_name(scope):
            headers = Headers(scope=scope)
            if not (self._host_allowed(headers) and self._origin_allowed(headers)):
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1008, "reason": "host not allowed"})
                    return
                raise HostNotAllowed("this gateway does not answer to that Host or Origin")
        await self._app(scope, receive, send)

    def _any_name(self, scope: Scope) -> bool:
        if scope["path"] == METRICS:
            return self._metrics_ask and scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        return scope["path"] in PROBES

    def _host_allowed(self, headers: Headers) -> bool:
        if not (self._open or self._hosts):
            return True
        hosts = headers.getlist("host")
        name = _hostname(f"//{hosts[0]}") if len(hosts) == 1 else None
        return name is not None and (name in self._hosts or (self._open and is_loopback(name)))

    def _origin_allowed(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if not self._open or origin is None or origin in self._origins:
            return True
        name = _hostname(origin)
        return name is not None and (is_loopback(name) or name in self._hosts)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class RequestIds:
    """Gives every answer an `x-request-id`: the one that the request came with, if it is of sane form, or a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"
        scope["state"]["request_id"] = request_id

        async def label(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        await self._app(scope, receive, label)


class CountRequests:
    """Counts every answer once its status is known: by operation, never by path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                services = scope["state"]["services"]
                operation = scope["state"].get("operation", "none")
                services.metrics.requests.labels(operation, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, count)
