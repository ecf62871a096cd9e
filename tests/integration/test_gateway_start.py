"""Starting: one generation a request whatever is repeated, and truth about doubt. (Bounds are tested beside.)"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.access.principal import LOCAL
from gateway.start import SOON_MS, start
from shared.errors import StartUncertain, Unavailable
from shared.events import Created, decode_event
from shared.ids import MessageRef
from shared.jobs import QUEUE_NAME, GenerationRequest, decode_request
from shared.link import Link
from shared.log.keys import DUE, log_keys
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, MODELS, LiveGateway, code_of, indexed, running, started
from tests.support.redis import RedisServer
from tests.support.writer import LogWriter


async def queued(link: Link) -> int:
    return int(await link.call("ZCARD", QUEUE_NAME))


async def test_a_start_stores_queues_and_tells_where_to_look(client: httpx.AsyncClient, log: Log, link: Link) -> None:
    body = {**ASK, "params": {"temperature": 0}, "metadata": {"k": "v"}}
    response = await client.post("/chats/c/messages", json=body)
    assert response.status_code == 202
    told = response.json()
    assert told["state"] == "queued"
    assert response.headers["location"] == told["stream_url"]
    ref = LOCAL.ref("c", told["message_id"])
    entries = await log.read_all(ref)
    assert [str(entry.cursor) for entry in entries] == [told["cursor"]]
    first = decode_event(entries[0].raw)
    assert isinstance(first, Created)
    assert (first.chat_id, first.message_id, first.model) == ("c", told["message_id"], "scripted")
    stored = decode_request(await log.request(ref) or b"")
    assert stored == GenerationRequest("scripted", ASK["messages"], {"temperature": 0}, metadata={"k": "v"})
    assert await queued(link) == 1
    assert await link.call("ZSCORE", DUE, ref.member) is not None
    assert await log.active(ref.tenant, "c") == ref.message_id


async def test_the_same_start_on_two_gateways_at_once_is_one_generation(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway() as a, make_gateway() as b, a.client() as on_a, b.client() as on_b:
        headers = {"idempotency-key": "click-1"}
        posts = [one.post("/chats/c/messages", json=ASK, headers=headers) for one in (on_a, on_b) * 20]
        answers = await asyncio.gather(*posts)
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["message_id"] for answer in answers}) == 1
        assert len({answer.json()["cursor"] for answer in answers}) == 1
        assert len(await log.in_flight(LOCAL.scope, "c")) == 1


@pytest.mark.parametrize("how", ["message_id", "key"])
async def test_the_same_name_with_another_body_is_a_conflict(client: httpx.AsyncClient, how: str) -> None:
    async def post(**more: Any) -> httpx.Response:
        named = {"message_id": "m1"} if how == "message_id" else {}
        headers = {"idempotency-key": "k1"} if how == "key" else {}
        return await client.post("/chats/c/messages", json={**ASK, **named, **more}, headers=headers)

    first = await post()
    assert first.status_code == 202
    for other in ({"model": "other"}, {"params": {"seed": 1}}, {"metadata": {"a": 1}}):
        refused = await post(**other)
        assert (refused.status_code, code_of(refused)) == (409, "idempotency_mismatch")
        assert refused.headers["x-should-retry"] == "false"
    assert (await post()).json() == first.json()


async def test_a_key_means_one_message_of_one_chat(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    ids = {
        (await client.post(f"/chats/{chat}/messages", json=ASK, headers=headers)).json()["message_id"] for chat in "abc"
    }
    assert len(ids) == 3
    both = await client.post("/chats/d/messages", json={**ASK, "message_id": "m"}, headers=headers)
    assert (both.status_code, code_of(both)) == (400, "invalid_request")
    long = await client.post("/chats/d/messages", json=ASK, headers={"idempotency-key": "k" * 257})
    assert long.status_code == 400


async def test_a_repeated_start_of_a_finished_message_finds_it(client: httpx.AsyncClient, log: Log) -> None:
    body = {**ASK, "message_id": "m"}
    first = (await client.post("/chats/c/messages", json=body)).json()
    writer = LogWriter(log, LOCAL.ref("c", "m"))
    await writer.claim()
    await writer.finish()
    again = await client.post("/chats/c/messages", json=body)
    assert again.json() == {**first, "state": "done"}


async def test_a_repeated_start_brings_a_forgotten_message_to_the_queue_again(
    client: httpx.AsyncClient, link: Link
) -> None:
    body = {**ASK, "message_id": "m"}
    await client.post("/chats/c/messages", json=body)
    await link.call("DEL", QUEUE_NAME)
    assert (await client.post("/chats/c/messages", json=body)).status_code == 202
    assert await queued(link) == 1


@pytest.mark.parametrize("body", [{}, {"params": {"seed": 1}}], ids=["repeated", "refused"])
async def test_a_start_that_created_nothing_puts_no_reaper_off(
    client: httpx.AsyncClient, link: Link, body: dict[str, Any]
) -> None:
    """Before it knew, it had made an appointment beyond the longest start, in place of the message's own."""
    ref = await started(client)
    answer = await client.post("/chats/c/messages", json={**ASK, "message_id": "m", **body})
    assert answer.status_code == (409 if body else 202)
    seconds, micros = map(int, await link.call("TIME"))
    due = float(await link.call("ZSCORE", DUE, ref.member))
    assert due <= seconds * 1000 + micros / 1000 + SOON_MS


async def test_a_default_model_that_was_changed_makes_no_other_start_of_a_repetition(make_gateway: MakeGateway) -> None:
    other_first = "\n\n".join(reversed(MODELS.split("\n\n")))
    async with make_gateway() as before, make_gateway(models=other_first) as after:
        assert before.services.models.choose("") != after.services.models.choose("")
        async with before.client() as first, after.client() as second:
            ref = await started(first)
            assert await started(second) == ref


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_repeated_start_tells_of_a_message_whose_gateway_died_before_it_could(
    gateway: LiveGateway, client: httpx.AsyncClient, log: Log, monkeypatch: pytest.MonkeyPatch, claimed: bool
) -> None:
    async def died(*_: object) -> None:
        pass

    body = {**ASK, "message_id": "m"}
    with monkeypatch.context() as crash:
        crash.setattr("gateway.start._announce", died)
        await client.post("/chats/c/messages", json=body)
    if claimed:  # a reaper has brought it to a worker since
        await LogWriter(log, LOCAL.ref("c", "m")).claim()
    assert (await client.get("/active")).json()["messages"] == []
    assert (await client.post("/chats/c/messages", json=body)).status_code == 202
    assert [view["message_id"] for view in (await client.get("/active")).json()["messages"]] == ["m"]
    assert (await client.get("/chats/c")).json()["last_message_id"] == "m"
    assert await indexed(gateway.services) == 1
    told = await gateway.services.feed.read(LOCAL.scope, None)
    assert told is not None
    assert [b'"started"' in line for _, line in told] == [True]


async def test_an_id_whose_message_is_over_and_forgotten_is_gone(client: httpx.AsyncClient, link: Link) -> None:
    body = {**ASK, "message_id": "m"}
    await client.post("/chats/c/messages", json=body)
    await client.post("/chats/c/messages/m/stop")
    keys = log_keys(LOCAL.ref("c", "m"))
    await link.call("DEL", keys.meta, keys.stream)  # what the retention period does
    again = await client.post("/chats/c/messages", json=body)
    assert (again.status_code, code_of(again)) == (410, "gone")


# -- a chat that is busy


async def test_fifty_starts_race_for_a_chat_and_one_wins(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway() as a, make_gateway() as b, a.client() as on_a, b.client() as on_b:
        answers = await asyncio.gather(*(one.post("/chats/c/messages", json=ASK) for one in (on_a, on_b) * 25))
    won = [answer for answer in answers if answer.status_code == 202]
    lost = [answer for answer in answers if answer.status_code == 409]
    assert (len(won), len(lost)) == (1, 49)
    active = won[0].json()["message_id"]
    assert {answer.json()["error"]["active_message_id"] for answer in lost} == {active}
    assert {code_of(answer) for answer in lost} == {"chat_busy"}
    assert {answer.headers["x-should-retry"] for answer in lost} == {"false"}
    assert await log.in_flight(LOCAL.scope, "c") == [active]


async def test_replace_ends_a_waiting_message_at_once(client: httpx.AsyncClient, log: Log) -> None:
    old = (await client.post("/chats/c/messages", json=ASK)).json()["message_id"]
    new = await client.post("/chats/c/messages", json={**ASK, "policy": "replace"})
    assert new.status_code == 202
    assert (await client.get(f"/chats/c/messages/{old}")).json()["status"]["state"] == "aborted"
    assert await log.in_flight(LOCAL.scope, "c") == [new.json()["message_id"]]


async def test_replace_tells_the_worker_of_a_running_message(client: httpx.AsyncClient, log: Log) -> None:
    old = LOCAL.ref("c", (await client.post("/chats/c/messages", json=ASK)).json()["message_id"])
    await LogWriter(log, old).claim()
    new = (await client.post("/chats/c/messages", json={**ASK, "policy": "replace"})).json()["message_id"]
    meta = await log.meta(old)
    assert meta is not None
    assert (meta.state, meta.stop) == ("running", "replaced")
    assert await log.active(LOCAL.scope, "c") == new


async def test_replace_stops_all_that_is_in_flight(client: httpx.AsyncClient, log: Log) -> None:
    writer = await running(client, log, "c", "a")
    for message in "bcd":
        await started(client, "c", message, policy="parallel")
    for _ in range(2):  # and a repetition stops nothing
        await started(client, "c", "new", policy="replace")
        assert await log.in_flight(LOCAL.scope, "c") == ["a", "new"]
    meta = await log.meta(writer.ref)
    assert meta is not None
    assert (meta.state, meta.stop) == ("running", "replaced")


async def test_parallel_messages_are_bounded(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_parallel=3) as gateway, gateway.client() as client:
        body = {**ASK, "policy": "parallel"}
        answers = [await client.post("/chats/c/messages", json=body) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
        assert code_of(answers[3]) == "limit_reached"
        assert "retry-after" in answers[3].headers
        assert len((await client.get("/chats/c")).json()["messages"]) == 3


async def test_policies_that_are_not_allowed_are_refused(make_gateway: MakeGateway) -> None:
    async with make_gateway(allow_replace=False, allow_parallel=False) as gateway, gateway.client() as client:
        for policy in ("replace", "parallel"):
            refused = await client.post("/chats/c/messages", json={**ASK, "policy": policy})
            assert (refused.status_code, code_of(refused)) == (400, "invalid_request")
        assert (await client.post("/chats/c/messages", json={**ASK, "policy": "single"})).status_code == 202
    async with make_gateway(busy_policy="parallel", allow_parallel=False) as gateway, gateway.client() as client:
        assert (await client.post("/chats/d/messages", json=ASK)).status_code == 202
        assert (await client.post("/chats/d/messages", json=ASK)).status_code == 202


# -- what is refused


async def test_unknown_models_and_parameters_that_are_ours_are_refused(client: httpx.AsyncClient) -> None:
    refused = await client.post("/chats/c/messages", json={**ASK, "model": "nope"})
    assert (refused.status_code, code_of(refused)) == (400, "model_not_found")
    assert refused.json()["error"]["message"] == 'no model "nope" is configured; there are: scripted, other'
    for name in ("base_url", "api_key", "extra_headers", "stream", "model", "messages"):
        refused = await client.post("/chats/c/messages", json={**ASK, "params": {name: "x"}})
        assert (refused.status_code, code_of(refused)) == (400, "invalid_request")
    assert (await client.get("/chats/c")).json()["messages"] == []


# -- Redis in trouble


async def test_with_redis_away_a_start_creates_nothing_and_may_be_repeated(
    make_gateway: MakeGateway, start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis()
    async with make_gateway(redis_url=redis.url, redis_deadline_s=0.3) as gateway, gateway.client() as client:
        await asyncio.to_thread(redis.pause)
        refused = await client.post("/chats/c/messages", json=ASK)
        assert (refused.status_code, code_of(refused)) == (503, "unavailable")
        assert "retry-after" in refused.headers
        assert "x-should-retry" not in refused.headers
        await asyncio.to_thread(redis.resume)
        assert (await client.post("/chats/c/messages", json=ASK)).status_code == 202


class FrozenBeforeCreate(Log):
    """The log, with a Redis that freezes just as CREATE is sent."""

    redis: RedisServer

    async def create(self, ref: MessageRef, **more: Any) -> Any:
        await asyncio.to_thread(self.redis.pause)
        return await super().create(ref, **more)


@pytest.mark.parametrize("named", [False, True])
async def test_a_start_that_may_have_happened_says_so(
    make_gateway: MakeGateway, start_redis: Callable[..., RedisServer], named: bool
) -> None:
    redis = start_redis()
    async with make_gateway(redis_url=redis.url, redis_deadline_s=0.3) as gateway:
        services = gateway.services
        freezing = FrozenBeforeCreate(services.link, services.settings.retention, deadline_s=0.3)
        freezing.redis = redis
        request = GenerationRequest("", ASK["messages"])
        try:
            # Named, the same start again is harmless; otherwise it could be a second generation.
            with pytest.raises(Unavailable if named else StartUncertain):
                await start(
                    dataclasses.replace(services, log=freezing),
                    LOCAL,
                    "c",
                    request,
                    message_id="m" if named else None,
                    policy="parallel",
                )
        finally:
            await asyncio.to_thread(redis.resume)
        if named:
            again = await start(services, LOCAL, "c", request, message_id="m", policy="parallel")
            assert await services.log.in_flight(LOCAL.scope, "c") == ["m"]
            assert again.ref.message_id == "m"


async def test_a_queue_that_fails_after_the_message_is_stored_does_not_fail_the_start(
    gateway: LiveGateway, link: Link, log: Log
) -> None:
    """The due index has the message: a reaper queues it."""
    await link.call("SET", QUEUE_NAME, "not a queue")
    services = dataclasses.replace(
        gateway.services, settings=gateway.services.settings.model_copy(update={"max_queue": 0})
    )
    started = await start(services, LOCAL, "c", GenerationRequest("", ASK["messages"]))
    assert started.state == "queued"
    assert await log.meta(started.ref) is not None
    assert await link.call("ZSCORE", DUE, started.ref.member) is not None
