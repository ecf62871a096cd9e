"""Owns what operators ask: alive, ready, metrics."""

from __future__ import annotations

import hmac

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.auth import METRICS, credential_of
from gateway.metrics import CONTENT_TYPE
from gateway.routes.request import NO_STORE, json_answer, services_of
from gateway.routes.table import Operation
from shared.errors import NotAuthenticated


class HealthAnswer(Struct, frozen=True):
    """A probe's answer. `redis` is whether it answered within the grace period."""

    ok: bool
    draining: bool
    redis: bool


def _answer(request: Request, ok: bool) -> Response:
    pulse = services_of(request).pulse
    return json_answer(HealthAnswer(ok, pulse.draining, pulse.redis_recent), 200 if ok else 503)


async def healthz(request: Request) -> Response:
    return _answer(request, services_of(request).pulse.alive)


async def readyz(request: Request) -> Response:
    return _answer(request, services_of(request).pulse.ready)


async def metrics(request: Request) -> Response:
    services = services_of(request)
    # Without a token of their own, metrics are for whoever is authenticated: they name nobody. With one, nobody else
    # has asked for a credential: `Authenticate` lets the request come this far.
    token = services.settings.metrics_token.get_secret_value()
    if token and not hmac.compare_digest(token.encode(), (credential_of(request.headers) or "").encode()):
        raise NotAuthenticated("no valid credential came with the request")
    return Response(services.metrics.render(), 200, NO_STORE, CONTENT_TYPE)


OPERATIONS = (
    Operation(
        name="healthz",
        method="GET",
        path="/healthz",
        handler=healthz,
        summary="Whether this process is alive; restart it if not.",
        answers={200: (HealthAnswer,), 503: (HealthAnswer,)},
        public=True,
    ),
    Operation(
        name="readyz",
        method="GET",
        path="/readyz",
        handler=readyz,
        summary="Whether this process should get traffic.",
        answers={200: (HealthAnswer,), 503: (HealthAnswer,)},
        public=True,
    ),
    Operation(
        name="metrics",
        method="GET",
        path=METRICS,
        handler=metrics,
        summary="Prometheus metrics.",
        answers={200: ("text",)},
    ),
)
