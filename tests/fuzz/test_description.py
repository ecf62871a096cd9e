"""Fuzzes every operation of the gateway's own OpenAPI description, with what it allows and what it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from tests.fuzz.effort import examples
from tests.fuzz.properties import check
from tests.fuzz.rig import BOB, Rig
from tests.fuzz.wire import Answer, exchange, request_bytes

OPERATIONS = 24
"""At least so many are described."""


def _send(rig: Rig, case: Case[Any], key: str | None) -> Answer:
    request = requests.Request(**case.as_transport_kwargs(base_url=rig.gateway.url)).prepare()
    target, method = str(request.path_url).encode(), str(request.method).encode()
    ours = {b"content-length", b"connection", b"authorization", b"x-api-key", b"host"}
    headers = [(_raw(name), _raw(value)) for name, value in request.headers.items()]
    headers = [(b"host", b"x"), *(header for header in headers if header[0].lower() not in ours)]
    if key is not None:
        headers.append((b"x-api-key", key.encode()))
    body = request.body or b""
    assert isinstance(body, str | bytes), body
    answer = exchange(rig.port, request_bytes(method, target, headers, _raw(body)))
    check(answer, target, key)
    assert answer.status, f"no answer to {method!r} {target!r} {headers!r}"
    return answer


def _raw(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
def test_every_operation(rig: Rig, mode: GenerationMode) -> None:
    document = json.loads(exchange(rig.port, request_bytes(b"GET", b"/openapi.json", [(b"host", b"x")], b"")).body)
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) >= OPERATIONS

    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not (operation.body or list(operation.iter_parameters())):
            continue  # there is nothing to say wrongly

        @examples(4)
        @given(operation.as_strategy(generation_mode=mode), st.sampled_from((BOB, BOB, None)))
        def run(case: Case[Any], key: str | None) -> None:
            answer = _send(rig, case, key)
            stated = document["paths"][case.operation.path][case.operation.method.lower()]["responses"]
            if answer.status not in (404, 405):  # a path that came to be another one's
                assert str(answer.status) in stated, answer
                assert answer.status == 204 or answer.kind in stated[str(answer.status)].get("content", ()), answer

        run()
