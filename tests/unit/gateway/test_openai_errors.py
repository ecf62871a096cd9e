"""Errors on `/v1`: OpenAI's shape, and never an invitation to generate a second time."""

from __future__ import annotations

import json

import pytest
from starlette.exceptions import HTTPException

from gateway.openai.openai_errors import ApiError, answer, answer_http, generation_error
from gateway.protocols.openai_common import GENERATION_STATUS
from shared.errors import GENERATION_CODES, TailraceError
from shared.events import Failure
from tests.unit.gateway.test_errors import all_errors, make

RETRIED = (408, 409, 429)
"""Statuses that both SDKs repeat by themselves, besides all from 500 on."""


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_has_openais_shape(kind: type[TailraceError]) -> None:
    response = answer(make(kind))
    body = json.loads(bytes(response.body))
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    assert body["error"]["type"] in ("invalid_request_error", "rate_limit_error", "server_error")
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)


@pytest.mark.parametrize("kind", all_errors())
def test_only_what_started_nothing_may_be_repeated(kind: type[TailraceError]) -> None:
    response = answer(make(kind))
    if response.status_code in RETRIED or response.status_code >= 500:
        assert (response.headers.get("x-should-retry") == "false") != kind.retryable


def test_codes_that_openais_clients_know() -> None:
    by_code = {kind.code: json.loads(bytes(answer(make(kind)).body))["error"]["code"] for kind in all_errors()}
    assert by_code["not_authenticated"] == "invalid_api_key"
    assert by_code["limit_reached"] == "rate_limit_exceeded"
    assert by_code["model_not_found"] == "model_not_found"


@pytest.mark.parametrize("code", [*GENERATION_CODES, "aborted"])
def test_a_failed_generation_is_not_asked_for_again(code: str) -> None:
    response = answer(generation_error(Failure(code, "It failed."), {"x-response-id": "resp_1"}))
    assert response.status_code >= 400
    assert response.headers["x-should-retry"] == ("true" if code == "queue_timeout" else "false")
    assert response.headers["x-response-id"] == "resp_1"
    assert json.loads(bytes(response.body))["error"]["code"] == code


def test_every_status_is_of_a_code_that_exists() -> None:
    assert set(GENERATION_STATUS) <= {*GENERATION_CODES, "aborted"}


def test_an_error_of_the_routes_says_what_they_say() -> None:
    response = answer(ApiError(404, "Nothing here.", code="c", param="p", should_retry=True, headers={"x-a": "b"}))
    assert response.status_code == 404
    assert json.loads(bytes(response.body)) == {
        "error": {"message": "Nothing here.", "type": "invalid_request_error", "param": "p", "code": "c"}
    }
    assert (response.headers["x-should-retry"], response.headers["x-a"]) == ("true", "b")


def test_what_the_router_refuses_has_the_shape_too() -> None:
    assert json.loads(bytes(answer_http(HTTPException(404)).body))["error"]["type"] == "invalid_request_error"
    response = answer_http(HTTPException(405, headers={"Allow": "POST"}))
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
