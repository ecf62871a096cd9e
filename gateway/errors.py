"""Owns how an error becomes an HTTP answer: one table, one JSON shape, nothing internal in either.

{"error": {"code": "chat_busy", "message": "...", "active_message_id": "..."}}
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from msgspec import UNSET, Struct, UnsetType
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.live.transport import BrokenOff
from shared.errors import ChatBusy, MethodNotAllowed, NotFound, TailraceError
from shared.events import encode_json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rule:
    """How a code is answered. `say` replaces the error's own text where that would reveal internals."""

    status: int
    retry_after_s: int | None = None
    should_retry: bool | None = None
    say: str = ""


TABLE: Mapping[str, Rule] = {
    "invalid_request": Rule(400),
    "invalid_id": Rule(400),
    "invalid_cursor": Rule(400),
    "model_not_found": Rule(400),
    "not_authenticated": Rule(401),
    "host_not_allowed": Rule(403),
    "not_found": Rule(404),
    "method_not_allowed": Rule(405),
    "request_timeout": Rule(408),
    # SDKs repeat every 409 by themselves unless they are told not to; here that would be in vain.
    "conflict": Rule(409, should_retry=False),
    "chat_busy": Rule(409, should_retry=False),
    "idempotency_mismatch": Rule(409, should_retry=False),
    "gone": Rule(410),
    "request_too_large": Rule(413),
    "unsupported_media_type": Rule(415),
    "limit_reached": Rule(429, retry_after_s=2),
    # Of these we do not know what was done before, and doing it again may cost a second generation.
    "internal_error": Rule(500, should_retry=False, say="an unexpected error; it has been logged"),
    "unsafe_redis": Rule(500, should_retry=False, say="the gateway is not configured safely"),
    "start_uncertain": Rule(503, should_retry=False),
    "overloaded": Rule(503, retry_after_s=2),
    "unavailable": Rule(503, retry_after_s=1, say="temporarily unavailable; try again"),
    "storage_full": Rule(503, retry_after_s=5, say="there is no room for new messages now; try again"),
}
"""Every code that a request can be answered with."""


class ErrorBody(Struct, frozen=True):
    """What went wrong: a stable code for programs and a sentence for people."""

    code: str
    message: str
    active_message_id: str | UnsetType = UNSET


class ErrorAnswer(Struct, frozen=True):
    """The one shape of every error."""

    error: ErrorBody


def status_of(error: TailraceError) -> tuple[int, str]:
    """Return the status and the sentence that `error` is answered with."""
    rule = TABLE.get(error.code, TABLE["internal_error"])
    return rule.status, rule.say or str(error) or HTTPStatus(rule.status).phrase


def answer(error: TailraceError) -> Response:
    """Return the HTTP answer for `error`."""
    rule = TABLE.get(error.code, TABLE["internal_error"])
    active = error.active if isinstance(error, ChatBusy) else UNSET
    status, sentence = status_of(error)
    body = ErrorBody(error.code, sentence, active)
    response = Response(encode_json(ErrorAnswer(body)), status, media_type="application/json")
    response.headers["cache-control"] = "no-store"
    if rule.retry_after_s is not None:
        response.headers["retry-after"] = str(rule.retry_after_s)
    if rule.should_retry is not None:
        response.headers["x-should-retry"] = str(rule.should_retry).lower()
    if rule.status == 408:
        response.headers["connection"] = "close"  # whatever still comes is not the beginning of a request
    if rule.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


def answer_http(error: HTTPException) -> Response:
    """Return the answer for what the router refuses by itself: an unknown path or method."""
    if error.status_code == 405:
        response = answer(MethodNotAllowed("this path does not know that method"))
        response.headers["allow"] = (error.headers or {}).get("Allow", "")
        return response
    if error.status_code == 404:
        return answer(NotFound("not found"))
    log.error("unexpected http exception", extra={"status": error.status_code})
    return answer(TailraceError())


@dataclass(frozen=True, slots=True)
class Shape:
    """How a family of paths answers errors."""

    answer: Callable[[TailraceError], Response]
    answer_http: Callable[[HTTPException], Response]


NATIVE = Shape(answer, answer_http)


class ErrorBoundary:
    """The outermost place where an exception of a request is known: it becomes an answer, or breaks the connection.

    `shapes`: by the prefix of their paths, the families that do not answer in our own shape. Once the answer has
    begun there is no way to take it back: the exception goes on to the server, which closes the connection without
    a clean end, so that no client takes half a body for a whole one.
    """

    def __init__(self, app: ASGIApp, shapes: Mapping[str, Shape] | None = None) -> None:
        self._app = app
        self._shapes = tuple((shapes or {}).items())

    def _shape(self, path: str) -> Shape:
        return next((shape for prefix, shape in self._shapes if path.startswith(prefix)), NATIVE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        shape = self._shape(scope["path"])
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, note)
        except (TailraceError, HTTPException) as error:
            if begun:
                raise
            response = shape.answer(error) if isinstance(error, TailraceError) else shape.answer_http(error)
            await response(scope, receive, send)
        except BrokenOff:
            raise
        except Exception:
            if begun:
                raise
            state = scope.get("state", {})
            told = {"operation": state.get("operation"), "request_id": state.get("request_id")}
            log.exception("request failed", extra={"method": scope["method"], **told})
            await shape.answer(TailraceError())(scope, receive, send)
