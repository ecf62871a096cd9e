"""Starts beyond a bound (the queue's, a user's) are refused before anything is created; what is over takes no place."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import httpx
import pytest

from gateway.access.principal import LOCAL
from gateway.start import start
from shared.jobs import GenerationRequest
from shared.link import Link
from shared.log.keys import starting_key
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, LiveGateway, code_of, started
from tests.support.log import full
from tests.support.writer import LogWriter


async def test_a_full_queue_refuses_before_anything_is_created(make_gateway: MakeGateway, link: Link) -> None:
    async with make_gateway(max_queue=5) as gateway, gateway.client() as client:
        named = {**ASK, "message_id": "m"}
        assert (await client.post("/chats/first/messages", json=named)).status_code == 202
        for n in range(4):
            assert (await client.post(f"/chats/{n}/messages", json=ASK)).status_code == 202
        keys = await link.call("DBSIZE")
        answers = await asyncio.gather(*(client.post(f"/chats/x{n}/messages", json=ASK) for n in range(50)))
        assert {(answer.status_code, code_of(answer)) for answer in answers} == {(503, "overloaded")}
        assert all("retry-after" in answer.headers for answer in answers)
        assert await link.call("DBSIZE") == keys
        # A repetition of what was accepted is no new load.
        assert (await client.post("/chats/first/messages", json=named)).status_code == 202


async def test_a_users_messages_in_flight_are_bounded_and_finished_ones_do_not_count(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_running_per_user=3, api_keys="a=t/ann,b=t/bob") as gateway:
        async with gateway.client("a") as ann, gateway.client("b") as bob:
            ids = [(await ann.post(f"/chats/{n}/messages", json=ASK)).json()["message_id"] for n in range(3)]
            refused = await ann.post("/chats/3/messages", json=ASK)
            assert (refused.status_code, code_of(refused)) == (429, "limit_reached")
            assert "retry-after" in refused.headers
            assert (await bob.post("/chats/3/messages", json=ASK)).status_code == 202
            await ann.post(f"/chats/0/messages/{ids[0]}/stop")
            assert (await ann.post("/chats/3/messages", json=ASK)).status_code == 202


async def test_a_users_bound_holds_for_starts_at_the_same_moment_on_two_gateways(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_running_per_user=2) as a, make_gateway(max_running_per_user=2) as b:
        async with a.client() as on_a, b.client() as on_b:
            posts = [(on_a, on_b)[n % 2].post(f"/chats/{n}/messages", json=ASK) for n in range(60)]
            answers = await asyncio.gather(*posts)
            assert sorted(answer.status_code for answer in answers) == [202] * 2 + [429] * 58
            assert len((await on_a.get("/active")).json()["messages"]) == 2


async def test_nobody_is_refused_for_what_is_over_however_quickly_it_was_or_how_many_start_then(
    make_gateway: MakeGateway, log: Log
) -> None:
    async with make_gateway(max_running_per_user=3) as gateway, gateway.client() as client:
        for turn in range(3):
            posts = [started(client, f"c{n}", f"m{turn}") for n in range(3)]
            for ref in await asyncio.gather(*posts):
                writer = LogWriter(log, ref)
                await writer.claim()
                await writer.finish()


@pytest.mark.parametrize("wrong_by_s", [-30_000, 30_000])
async def test_a_gateway_with_a_wrong_clock_takes_nothing_out_of_a_users_index(
    gateway: LiveGateway, client: httpx.AsyncClient, wrong_by_s: int
) -> None:
    await started(client, "c", "before")
    wrong = dataclasses.replace(gateway.services, clock=lambda: time.time() + wrong_by_s)
    await start(wrong, LOCAL, "d", GenerationRequest("", ASK["messages"]), message_id="wrong")
    await started(client, "e", "after")
    messages = (await client.get("/active")).json()["messages"]
    assert [message["message_id"] for message in messages] == ["before", "wrong", "after"]


async def test_a_refused_or_repeated_start_takes_no_place_under_the_bound(
    make_gateway: MakeGateway, link: Link
) -> None:
    async with make_gateway(max_running_per_user=2) as gateway, gateway.client() as client:
        named = {**ASK, "message_id": "m"}
        for _ in range(3):
            assert (await client.post("/chats/c/messages", json=named)).status_code == 202
            assert (await client.post("/chats/c/messages", json=ASK)).status_code == 409
        await client.post("/chats/c/messages/m/stop")
        assert (await client.post("/chats/c/messages", json=named)).json()["state"] == "aborted"
        for n in range(2):
            assert (await client.post(f"/chats/{n}/messages", json=ASK)).status_code == 202
        assert await link.call("ZCARD", starting_key(LOCAL.scope)) == 0
        assert (await client.post("/chats/2/messages", json=ASK)).status_code == 429
        # At the bound, too, what was accepted before is found.
        assert (await client.post("/chats/c/messages", json=named)).status_code == 202


async def test_a_place_that_nobody_gave_back_is_void_after_the_longest_start(
    make_gateway: MakeGateway, link: Link
) -> None:
    async with make_gateway(max_running_per_user=1) as gateway, gateway.client() as client:
        key, left = starting_key(LOCAL.scope), LOCAL.ref("x", "left").member
        now = int((await link.call("TIME"))[0])
        await link.call("ZADD", key, now, left)
        assert (await client.post("/chats/c/messages", json=ASK)).status_code == 429
        await link.call("ZADD", key, now - 60, left)
        assert (await client.post("/chats/c/messages", json=ASK)).status_code == 202


async def test_a_start_that_a_full_redis_refused_takes_no_place_under_the_bound(
    make_gateway: MakeGateway, link: Link
) -> None:
    async with make_gateway(max_running_per_user=1) as gateway, gateway.client() as client:
        async with full(link):
            refused = await client.post("/chats/c/messages", json=ASK)
            assert (refused.status_code, code_of(refused)) == (503, "storage_full")
        assert (await client.post("/chats/c/messages", json=ASK)).status_code == 202
