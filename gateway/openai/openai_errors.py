"""Owns errors on `/v1`: OpenAI's one shape, and whether an SDK may repeat the request by itself.

{"error": {"message": "...", "type": "invalid_request_error", "param": null, "code": "model_not_found"}}

Both SDKs repeat a POST after 408, 409, 429 and 5xx without a key that would name it, so whatever could start a second
generation carries `x-should-retry: false`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.errors import TABLE, Rule, Shape
from gateway.protocols.openai_common import error_type, failure_code, failure_status
from shared.errors import TailraceError
from shared.events import Failure, encode_json

PREFIX = "/v1/"
_STATUS = {"model_not_found": 404}
_CODE: dict[str, str | None] = {"not_authenticated": "invalid_api_key", "limit_reached": "rate_limit_exceeded"}
_PARAM = {"model_not_found": "model"}


class OpenAIErrorBody(Struct, frozen=True):
    """What went wrong, in OpenAI's words where it has some."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(Struct, frozen=True):
    """The one shape of every error on `/v1`."""

    error: OpenAIErrorBody


class ApiError(TailraceError):
    """Raised by the `/v1` routes for what only they can say: the status, and what SDKs make of it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        should_retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.public_code = code
        self.param = param
        self.should_retry = should_retry
        self.headers = dict(headers or {})


def generation_error(failure: Failure, headers: Mapping[str, str]) -> ApiError:
    """Return the answer to a request whose message failed. It was paid for: no SDK shall ask for it again by itself."""
    status = failure_status(failure)
    # Nothing was generated for one that no worker took.
    retry = failure.code == "queue_timeout"
    return ApiError(status, failure.message, code=failure_code(failure), should_retry=retry, headers=headers)


def answer(error: TailraceError) -> Response:
    """Return the HTTP answer for `error`."""
    if isinstance(error, ApiError):
        return _response(error, Rule(error.status, should_retry=error.should_retry), error.public_code, error.headers)
    rule = TABLE.get(error.code, TABLE["internal_error"])
    return _response(error, rule, _CODE.get(error.code, error.code), {})


def answer_http(error: HTTPException) -> Response:
    """Return the answer for what the router refuses by itself: an unknown path or method."""
    message = "This path does not know that method." if error.status_code == 405 else "No such path."
    headers = {"allow": (error.headers or {}).get("Allow", "")} if error.status_code == 405 else {}
    return answer(ApiError(error.status_code, message, headers=headers))


def _response(error: TailraceError, rule: Rule, code: str | None, headers: Mapping[str, str]) -> Response:
    status = _STATUS.get(error.code, rule.status)
    message = rule.say or str(error) or HTTPStatus(status).phrase
    param = error.param if isinstance(error, ApiError) else _PARAM.get(error.code)
    body = OpenAIError(OpenAIErrorBody(message, error_type(status), param, code))
    response = Response(encode_json(body), status, {"cache-control": "no-store", **headers}, "application/json")
    if rule.retry_after_s is not None:
        response.headers["retry-after"] = str(rule.retry_after_s)
    if rule.should_retry is not None:
        response.headers["x-should-retry"] = str(rule.should_retry).lower()
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


OPENAI = Shape(answer, answer_http)
