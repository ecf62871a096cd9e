"""Chat completions on a gateway alone: bad ends, begun anew, repeated by key; and errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from shared import events as ev
from shared.ids import MessageRef
from shared.jobs import decode_request
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.integration.openai.conftest import Take
from tests.integration.test_gateway_start import FrozenBeforeCreate
from tests.support.gateway import LiveGateway, raw_exchange
from tests.support.openai_kit import ASK, MESSAGES, Collector, Worker, text_of
from tests.support.redis import RedisServer
from tests.support.wait import wait_until

KEYED = {"idempotency-key": "click"}


async def ask(client: openai.AsyncOpenAI, **more: Any) -> Any:
    """Open a streamed completion."""
    asked: dict[str, Any] = {"model": "scripted", "messages": MESSAGES, "stream": True, **more}
    return await client.chat.completions.create(**asked)


@pytest.mark.parametrize(
    ("state", "code", "kind"),
    [
        ("failed", "upstream_interrupted", "server_error"),
        ("failed", "upstream_rejected", "invalid_request_error"),
        ("failed", "upstream_rate_limited", "rate_limit_error"),
        ("aborted", "aborted", "invalid_request_error"),
    ],
)
async def test_a_stream_that_does_not_end_well_raises(
    client_of_gateway: openai.AsyncOpenAI, take: Take, state: str, code: str, kind: str
) -> None:
    """With the type that the answer would have had if it were not streamed."""
    stream = await ask(client_of_gateway)
    live = Collector(stream)
    worker = await take(stream.response.headers["x-response-id"])
    await worker.say("Half")
    await live.until(2)
    await worker.end(state, ev.Failure(code, "It broke.") if state == "failed" else None)
    await live.over()
    assert live.text == "Half"
    assert isinstance(live.error, openai.APIError)
    assert (live.error.code, live.error.type) == (code, kind)


async def test_who_has_void_text_is_told_and_a_repetition_gets_the_fresh_attempt(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, take: Take
) -> None:
    stream = await ask(client_of_gateway, extra_headers=KEYED)
    live = Collector(stream)
    worker = await take(stream.response.headers["x-response-id"])
    await worker.say("Void ")
    await live.until(2)
    await worker.begin_anew()
    await live.over()
    assert isinstance(live.error, openai.APIError)
    assert live.error.code == "answer_restarted"
    await worker.say("Fresh ")
    again = Collector(await ask(client_of_gateway, extra_headers=KEYED))
    await again.until(2)
    await worker.write(ev.TextDelta("t0", "text."))
    await worker.end()
    assert (await again.over()).text == "Fresh text."
    assert again.error is None
    whole = await ask(client_of_gateway, extra_headers=KEYED)
    assert text_of([chunk async for chunk in whole]) == "Fresh text."
    assert gateway.services.metrics.starts.labels("created")._value.get() == 1


async def test_what_a_model_wants_back_with_a_call_reaches_the_client_and_a_chain(
    client_of_gateway: openai.AsyncOpenAI, take: Take, log: Log
) -> None:
    """Google's models refuse a conversation in which the signature of a call is missing."""
    signed = {"google": {"thought_signature": "CiQB"}}
    call: list[ev.Event] = [ev.ToolInputStart("c1", "f", signed), ev.ToolInputAvailable("c1", "f", {}, signed)]
    tools: Any = [{"type": "function", "function": {"name": "f"}}]
    stream = await ask(client_of_gateway, tools=tools, extra_headers=KEYED)
    live = Collector(stream)
    worker = await take(stream.response.headers["x-response-id"])
    await worker.write(ev.Start("m"), ev.StartStep(), *call)
    await worker.end()
    deltas = [choice.delta.tool_calls for chunk in (await live.over()).events for choice in chunk.choices]
    [first] = next(calls for calls in deltas if calls)
    assert first.to_dict()["extra_content"] == signed
    whole = await ask(client_of_gateway, tools=tools, extra_headers=KEYED, stream=False)
    assert whole.choices[0].message.tool_calls[0].to_dict()["extra_content"] == signed

    asked: dict[str, Any] = {"model": "scripted", "tools": [{"type": "function", "name": "f"}], "background": True}
    response = await client_of_gateway.responses.create(input=ASK, **asked)
    worker = await take(response.id)
    await worker.write(ev.Start("m"), ev.StartStep(), *call)
    await worker.end()
    output: Any = [{"type": "function_call_output", "call_id": "c1", "output": "sun"}]
    [item] = (await client_of_gateway.responses.retrieve(response.id)).output
    events: Any = [event async for event in await client_of_gateway.responses.retrieve(response.id, stream=True)]
    assert events[-1].response.output == [item]
    first = {"role": "user", "content": ASK}
    for following in (
        {"input": output, "previous_response_id": response.id},
        {"input": [first, item.to_dict(), *output]},
        {"input": [first, {"type": "item_reference", "id": item.id}, *output]},
    ):
        worker = await take((await client_of_gateway.responses.create(**following, **asked)).id)
        request = decode_request(await log.request(worker.ref) or b"")
        assert request.messages[1]["tool_calls"][0]["extra_content"] == signed


async def test_a_completion_can_be_resumed_on_the_native_wire(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, take: Take
) -> None:
    stream = await ask(client_of_gateway)
    headers = stream.response.headers
    live = Collector(stream)
    worker = await take(headers["x-response-id"])
    await worker.say("Locks ")
    await live.until(2)
    await live.leave()
    await worker.write(ev.TextDelta("t0", "lift."))
    await worker.end()
    async with gateway.client() as client:
        replay = await client.get(headers["x-tailrace-stream"])
    assert '"delta":"Locks "' in replay.text
    assert '"delta":"lift."' in replay.text


async def test_a_waiting_client_is_told_of_a_stop(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, log: Log
) -> None:
    asking = asyncio.create_task(client_of_gateway.chat.completions.create(model="scripted", messages=MESSAGES))
    async with gateway.client() as client:
        found: list[dict[str, Any]] = []

        async def look() -> bool:
            found[:] = (await client.get("/active")).json()["messages"]
            return bool(found)

        await wait_until(look)
        name = found[0]["message_id"]
        await client.post(f"/chats/{name}/messages/{name}/stop")
    with pytest.raises(openai.ConflictError) as caught:
        await asking
    assert caught.value.code == "aborted"
    assert gateway.services.metrics.starts.labels("created")._value.get() == 1


# -- errors


def check_shape(reply: httpx.Response, status: int, code: str | None) -> None:
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]


async def test_every_refusal_has_openais_shape(make_gateway: MakeGateway, log: Log) -> None:
    keys = "ann-key=acme/ann"
    async with make_gateway(api_keys=keys, max_body_bytes=2000, max_running_per_user=1) as live, live.client() as bare:
        check_shape(await bare.get("/v1/models"), 401, "invalid_api_key")
        check_shape(await bare.get("/v1/nothing"), 401, "invalid_api_key")
        async with live.client("ann-key") as client:
            check_shape(await client.get("/v1/nothing"), 404, None)
            check_shape(await client.put("/v1/responses"), 405, None)
            check_shape(await client.get("/v1/models/none"), 404, "model_not_found")
            check_shape(await client.get("/v1/responses/resp_none"), 404, None)
            check_shape(await client.get("/v1/responses/" + "x" * 300), 400, "invalid_id")
            for path, body in (("responses", {"input": ASK}), ("chat/completions", {"messages": MESSAGES})):
                url = f"/v1/{path}"
                check_shape(await client.post(url, json={**body, "model": "none"}), 404, "model_not_found")
                check_shape(await client.post(url, json={**body, "stream": 5}), 400, "invalid_type")
                check_shape(await client.post(url, content=b"{"), 400, "invalid_request")
                check_shape(await client.post(url, content=b"[]"), 400, "invalid_request")
                check_shape(await client.post(url, content=b"x" * 3000), 413, "request_too_large")
                check_shape(await client.post(url, json={**body, "api_key": "k"}), 400, "invalid_request")
                zipped = {"content-encoding": "gzip"}
                check_shape(await client.post(url, content=b"x", headers=zipped), 415, "unsupported_media_type")
                long = {"idempotency-key": "k" * 300}
                check_shape(await client.post(url, json=body, headers=long), 400, "invalid_request")
            body = {"input": ASK, "background": True}
            keyed = {"idempotency-key": "k"}
            first = await client.post("/v1/responses", json=body, headers=keyed)
            assert first.status_code == 200
            other = await client.post("/v1/responses", json={**body, "input": "?"}, headers=keyed)
            check_shape(other, 409, "idempotency_mismatch")
            assert other.headers["x-should-retry"] == "false"
            full = await client.post("/v1/responses", json=body)
            check_shape(full, 429, "rate_limit_exceeded")
            assert (full.headers["retry-after"], full.headers.get("x-should-retry")) == ("2", None)


async def test_a_foreign_host_is_refused_in_the_shape_too(gateway: LiveGateway) -> None:
    request = b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    answer = await raw_exchange(gateway.url, request)
    assert answer.startswith(b"HTTP/1.1 403")
    assert b'"code":"host_not_allowed"' in answer


async def test_models_are_those_of_the_file_the_default_first(client_of_gateway: openai.AsyncOpenAI) -> None:
    models = [model async for model in client_of_gateway.models.list()]
    assert [model.id for model in models] == ["scripted", "other"]
    assert (await client_of_gateway.models.retrieve("other")).id == "other"


async def test_a_page_of_another_origin_may_use_the_sdk_where_it_is_allowed(make_gateway: MakeGateway) -> None:
    async with make_gateway(cors_origins="https://app.example") as live, live.client() as client:
        asks = {
            "origin": "https://app.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,x-stainless-lang,x-stainless-retry-count",
        }
        reply = await client.options("/v1/responses", headers=asks)
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize("keyed", [False, True])
async def test_what_is_not_known_to_have_started_is_repeated_by_name_alone(
    make_gateway: MakeGateway, start_redis: Callable[..., RedisServer], keyed: bool
) -> None:
    """Under a name that the gateway made up, a repetition would be a second generation."""
    redis = start_redis()
    async with make_gateway(redis_url=redis.url, redis_deadline_s=0.3) as live:
        freezing = FrozenBeforeCreate(live.services.link, live.services.settings.retention, deadline_s=0.3)
        freezing.redis = redis
        live.server.lifespan.state["services"] = dataclasses.replace(live.services, log=freezing)
        try:
            async with live.client() as client:
                body = {"input": ASK, "background": True}
                reply = await client.post("/v1/responses", json=body, headers=KEYED if keyed else {})
        finally:
            await asyncio.to_thread(redis.resume)
        check_shape(reply, 503, "unavailable" if keyed else "start_uncertain")
        assert reply.headers.get("x-should-retry") == (None if keyed else "false")


class FrozenAfterCreate(Log):
    """The log, with a Redis that freezes as soon as the message exists."""

    redis: RedisServer

    async def create(self, ref: MessageRef, **more: Any) -> Any:
        reply = await super().create(ref, **more)
        await asyncio.to_thread(self.redis.pause)
        return reply


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("responses", {"input": ASK}),
        ("responses", {"input": ASK, "background": True}),
        ("chat/completions", {"messages": MESSAGES}),
    ],
)
async def test_what_has_started_is_repeated_by_name_alone(
    make_gateway: MakeGateway, start_redis: Callable[..., RedisServer], path: str, body: dict[str, Any], keyed: bool
) -> None:
    redis = start_redis()
    async with make_gateway(redis_url=redis.url, redis_deadline_s=0.3) as live:
        freezing = FrozenAfterCreate(live.services.link, live.services.settings.retention, deadline_s=0.3)
        freezing.redis = redis
        live.server.lifespan.state["services"] = dataclasses.replace(live.services, log=freezing)
        try:
            async with live.client() as client:
                reply = await client.post(f"/v1/{path}", json=body, headers=KEYED if keyed else {})
        finally:
            await asyncio.to_thread(redis.resume)
        check_shape(reply, 503, "still_running")
        assert reply.headers["x-should-retry"] == str(keyed).lower()
        assert reply.headers["x-response-id"] in reply.json()["error"]["message"]


async def test_a_worker_by_hand_and_the_sdk_agree_on_the_whole(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, log: Log
) -> None:
    asking = asyncio.create_task(
        client_of_gateway.chat.completions.create(model="scripted", messages=MESSAGES, extra_headers=KEYED)
    )
    await wait_until(lambda: gateway.services.metrics.starts.labels("created")._value.get() == 1)
    async with gateway.client() as client:
        name = (await client.get("/active")).json()["messages"][0]["message_id"]
    worker = await Worker(log, name).claim()
    await worker.say("Locks ", "lift.")
    await worker.end()
    completion = await asking
    assert completion.id == name
    assert completion.choices[0].message.content == "Locks lift."
    async with client_of_gateway.chat.completions.stream(
        model="scripted", messages=MESSAGES, extra_headers={"idempotency-key": "other"}
    ) as stream:
        worker = await Worker(log, stream._response.headers["x-response-id"]).claim()
        await worker.say("Locks ", "lift.")
        await worker.end()
        streamed = await stream.get_final_completion()
    assert streamed.choices[0].message.content == completion.choices[0].message.content
    assert streamed.choices[0].finish_reason == completion.choices[0].finish_reason == "stop"
