"""Every answer has an id that its caller can name: in SDKs, in browsers, in our logs."""

from __future__ import annotations

import logging

import httpx
import openai
import pytest

from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, LiveGateway
from tests.support.openai_kit import ASK as WORDS
from tests.support.openai_kit import sdk


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/healthz"), ("GET", "/v1/models"), ("GET", "/v1/nothing"), ("POST", "/chats/c/messages"), ("GET", "/x")],
)
async def test_every_answer_has_one_of_its_own(gateway: LiveGateway, method: str, path: str) -> None:
    async with gateway.client() as client:
        replies = [await client.request(method, path, json=ASK if method == "POST" else None) for _ in range(2)]
    ids = [reply.headers.get_list("x-request-id") for reply in replies]
    assert [len(each) for each in ids] == [1, 1]
    assert ids[0] != ids[1]


async def test_the_sdk_knows_it_of_answers_streams_and_errors(gateway: LiveGateway) -> None:
    async with sdk(gateway.url) as client:
        response = await client.responses.create(model="scripted", input=WORDS, background=True)
        assert response._request_id
        stream = await client.responses.create(model="scripted", input=WORDS, background=True, stream=True)
        assert stream.response.headers["x-request-id"]
        await stream.close()
        with pytest.raises(openai.NotFoundError) as caught:
            await client.responses.retrieve("resp_nothing")
        assert caught.value.request_id


@pytest.mark.parametrize(
    ("given", "echoed"), [("trace-1.a:b_C", True), ("", False), ("a b", False), ("x" * 129, False), ('"', False)]
)
async def test_one_that_came_is_kept_if_it_is_sane(client: httpx.AsyncClient, given: str, echoed: bool) -> None:
    reply = await client.get("/healthz", headers={"x-request-id": given})
    assert (reply.headers["x-request-id"] == given) is echoed
    assert reply.headers["x-request-id"]


async def test_a_page_elsewhere_may_send_and_read_it(make_gateway: MakeGateway) -> None:
    origin = {"origin": "https://app.example.org"}
    async with make_gateway(cors_origins=origin["origin"]) as live, live.client() as client:
        reply = await client.get("/active", headers=origin)
        assert "x-request-id" in reply.headers["access-control-expose-headers"]
        ask = {"access-control-request-method": "POST", "access-control-request-headers": "x-request-id"}
        preflight = await client.options("/chats/c/messages", headers={**ask, **origin})
        assert preflight.status_code == 200
        assert preflight.headers["x-request-id"]


async def test_what_we_log_of_a_failed_request_names_it(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(type(gateway.services.log), "in_flight", broken)
    with caplog.at_level(logging.ERROR):
        async with gateway.client() as client:
            reply = await client.post(
                "/chats/c/messages", json={**ASK, "policy": "replace"}, headers={"x-request-id": "mine"}
            )
    assert reply.status_code == 500
    assert [vars(record).get("request_id") for record in caplog.records if record.msg == "request failed"] == ["mine"]
