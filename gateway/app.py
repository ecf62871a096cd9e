"""Owns how the gateway is put together: wrappers around routes around services.

    ExposeTransport > RawPath > RequestIds > CORS > CountRequests > ErrorBoundary > HostGuard > Authenticate > routes

Outermost what must see the connection, then what must touch every answer, then what turns exceptions into
answers, and inside it whatever may refuse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TypedDict

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.auth import METRICS, PUBLIC, Authenticate, make_identify
from gateway.errors import ErrorBoundary
from gateway.live.transport import ExposeTransport
from gateway.openai.openai_errors import OPENAI, PREFIX
from gateway.openapi import make_document
from gateway.routes import (
    active,
    ai_sdk,
    chats,
    feed,
    health,
    history,
    local_controls,
    openai_chat,
    openai_responses,
    static,
    tickets,
    websocket,
)
from gateway.routes.table import Operation, make_routes
from gateway.services import Services, open_services
from gateway.settings import GatewaySettings
from gateway.wrappers import CountRequests, HostGuard, RawPath, RequestIds
from shared.events import encode_json

OPERATIONS: tuple[Operation, ...] = (
    *chats.OPERATIONS,
    *history.OPERATIONS,
    *active.OPERATIONS,
    *feed.OPERATIONS,
    *tickets.OPERATIONS,
    *ai_sdk.OPERATIONS,
    *openai_chat.OPERATIONS,
    *openai_responses.OPERATIONS,
    *health.OPERATIONS,
)

LOOPBACK_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
REQUEST_HEADERS = (
    *("accept", "authorization", "content-type", "idempotency-key", "last-event-id", "x-api-key"),
    *("user-agent", "x-requested-with", "x-request-id", "openai-organization", "openai-project"),
    # What OpenAI's SDK adds in a browser.
    *(f"x-stainless-{name}" for name in ("arch", "lang", "os", "package-version", "retry-count", "runtime")),
    *(f"x-stainless-{name}" for name in ("runtime-version", "timeout", "helper-method")),
)
EXPOSED_HEADERS = (
    *("location", "retry-after", "x-should-retry", "www-authenticate"),
    *("x-request-id", "x-response-id", "x-tailrace-stream"),
    *("x-workflow-run-id", "x-workflow-stream-tail-index", "x-vercel-ai-ui-message-stream"),
)


class State(TypedDict):
    """What the server's lifespan hands to every request, as `scope["state"]`."""

    services: Services


def create_app(settings: GatewaySettings) -> ASGIApp:
    """Return the gateway as an ASGI application; it connects when its lifespan starts.

    Raises `ValueError` for settings that cannot be used: keys or models that cannot be read.
    """
    models = settings.models()
    identify = make_identify(settings)

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[State]:
        async with open_services(settings, models) as services:
            yield State(services=services)

    pages = (*static.make_operations(static.load_files(), settings), *local_controls.make_operations(settings))
    routes = make_routes([*OPERATIONS, _document_operation(settings), *pages])
    router = Router([*routes, websocket.ROUTE], redirect_slashes=False, lifespan=lifespan)
    public = PUBLIC | {METRICS} if settings.metrics_token.get_secret_value() else PUBLIC
    app: ASGIApp = Authenticate(_Rooted(router), identify, public)
    app = CountRequests(ErrorBoundary(HostGuard(app, settings), {PREFIX: OPENAI}))
    return ExposeTransport(RawPath(RequestIds(_with_cors(app, settings))))


class _Rooted:
    """Gives the router the `app` without which it would answer unknown paths by itself, and not as an exception."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._router(scope, receive, send)


def _document_operation(settings: GatewaySettings) -> Operation:
    body = encode_json(make_document(OPERATIONS, version("tailrace"), secured=not settings.open))

    async def openapi(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return Operation(
        name="openapi",
        method="GET",
        path="/openapi.json",
        handler=openapi,
        summary="This document.",
        answers={200: ("text",)},
        public=True,
    )


def _with_cors(app: ASGIApp, settings: GatewaySettings) -> ASGIApp:
    if not (settings.origins or settings.open):
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.origins,
        # On one's own machine the page of one gateway may call the other.
        allow_origin_regex=LOOPBACK_ORIGIN if settings.open else None,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=REQUEST_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        max_age=600,
    )
