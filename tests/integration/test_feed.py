"""A user's feed: told on every gateway, resumed by its cursor, reset after a gap, nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from gateway.access.principal import LOCAL
from shared import events as ev
from shared.events import encode_event
from shared.feed import LONGEST_TITLE, MOST_KEPT, PAGE, Feed, feed_key
from shared.jobs import GenerationRequest
from shared.link import Link
from shared.log.log import Log
from shared.log.types import Ending
from shared.message import Message, ToolPart, encode_message
from tests.integration.conftest import MakeGateway
from tests.support.gateway import LiveGateway, running, started
from tests.support.redis import RedisServer
from tests.support.sockets import open_socket
from tests.support.wait import wait_until
from tests.support.writer import LogWriter

Line = tuple[str | None, dict[str, Any]]


class Reader:
    """Reads a feed's lines; comments and retries are passed over."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.told: list[Line] = []

    async def hear(self) -> Line:
        """Return the next line."""
        cursor = None
        async with asyncio.timeout(10):
            async for line in self._lines:
                if line.startswith("id: "):
                    cursor = line[4:]
                elif line.startswith("data: "):
                    self.told.append((cursor, msgspec.json.decode(line[6:])))
                    return self.told[-1]
        raise AssertionError("the feed ended")

    async def hear_type(self, kind: str) -> dict[str, Any]:
        """Return the next line, which must be of that type."""
        _, event = await self.hear()
        assert event["type"] == kind, event
        return event


@asynccontextmanager
async def feed(client: httpx.AsyncClient, after: str | None = None) -> AsyncIterator[Reader]:
    headers = {} if after is None else {"last-event-id": after}
    async with client.stream("GET", "/feed", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Reader(response)


@pytest.fixture
async def telling(link: Link) -> Feed:
    """The feed as any process of the group tells it."""
    return Feed(link, keep_s=60)


def telling_log(link: Link, telling: Feed, log: Log) -> Log:
    return Log(link, log._retention, on_end=telling.ended)


async def test_starts_and_ends_are_told_on_every_gateway(
    make_gateway: MakeGateway, link: Link, telling: Feed, log: Log
) -> None:
    async with make_gateway() as one, make_gateway() as two, one.client() as asking, two.client() as watching:
        async with feed(watching) as reader:
            await started(asking, message="m", metadata={"title": "T" * 300, "answers": []})
            event = await reader.hear_type("started")
            assert (event["chat_id"], event["message_id"], event["title"]) == ("c", "m", "T" * LONGEST_TITLE)
            writer = LogWriter(telling_log(link, telling, log), LOCAL.ref("c", "m"))
            await writer.claim()
            await writer.finish()
            event = await reader.hear_type("ended")
            assert (event["message_id"], event["state"], event.get("needs_action")) == ("m", "done", None)
            await started(asking, message="n")
            await reader.hear_type("started")
            await asking.post("/chats/c/messages/n/stop")
            assert (await reader.hear_type("ended"))["state"] == "aborted"
            await asking.delete("/chats/c/messages/n")
            assert (await reader.hear_type("deleted"))["message_id"] == "n"


async def test_an_answer_that_waits_for_a_tools_output_needs_action(
    client: httpx.AsyncClient, link: Link, telling: Feed, log: Log
) -> None:
    ref = (await running(client, log)).ref
    for state, needs in (("input-available", True), ("output-available", None)):
        final = encode_message(Message(parts=[ToolPart("c1", "weather", state)]))  # type: ignore[arg-type]
        await telling.ended(ref, "done", final)
        async with feed(client) as reader:
            while (await reader.hear())[1]["type"] != "ended" or len(reader.told) < (2 if needs else 3):
                pass
            assert reader.told[-1][1].get("needs_action") == needs


async def test_what_is_told_while_the_link_to_redis_is_being_mended_comes_once_it_is(
    make_gateway: MakeGateway, redis_server: RedisServer
) -> None:
    # Its own comment lines have a feed read, too.
    async with make_gateway(heartbeat_s=1000) as gateway, gateway.client() as client, feed(client) as reader:
        for number in range(3):
            await started(client, message=str(number), policy="parallel")
            assert (await reader.hear_type("started"))["message_id"] == str(number)
            with redis_server.admin() as admin:
                admin.client_kill_filter(_type="pubsub")


async def test_a_reader_resumes_behind_its_cursor_on_another_gateway(make_gateway: MakeGateway, telling: Feed) -> None:
    async with make_gateway() as one, make_gateway() as two, one.client() as first, two.client() as second:
        request = GenerationRequest("m", [])
        for number in range(6):
            await telling.started(LOCAL.ref("c", str(number)), request)
        async with feed(first) as reader:
            lines = [await reader.hear() for _ in range(6)]
        for at, (cursor, _) in enumerate(lines[:-1]):
            async with feed((first, second)[at % 2], cursor) as reader:
                assert [await reader.hear() for _ in lines[at + 1 :]] == lines[at + 1 :]
        async with feed(second, lines[-1][0]) as reader:
            await telling.started(LOCAL.ref("c", "new"), request)
            assert (await reader.hear_type("started"))["message_id"] == "new"


async def test_the_title_of_a_deleted_message_is_forgotten_too(client: httpx.AsyncClient, link: Link) -> None:
    for message in ("m", 'odd "', "kept"):
        await started(client, message=message, metadata={"title": f"secret {message}"}, policy="parallel")
    for message in ("m", 'odd "'):
        assert (await client.delete(f"/chats/c/messages/{quote(message)}")).status_code == 204
    async with feed(client) as reader:
        lines = [(await reader.hear())[1] for _ in range(3)]
    assert [(line["type"], line["message_id"], line.get("title")) for line in lines] == [
        ("started", "kept", "secret kept"),
        ("deleted", "m", None),
        ("deleted", 'odd "', None),
    ]


async def test_a_line_is_kept_no_longer_than_the_period_however_active_its_user_is(link: Link, telling: Feed) -> None:
    request = GenerationRequest("m", [])
    seconds, _ = await link.call("TIME")
    for age_s in (3600, 61, 30):
        await link.call("XADD", feed_key(LOCAL.scope), f"{int(seconds) - age_s}000-0", "d", '{"title":"old"}')
    await telling.started(LOCAL.ref("c", "m"), request)
    lines = await telling.read(LOCAL.scope, None)
    assert lines is not None
    assert [int(cursor.partition("-")[0]) // 1000 >= int(seconds) - 60 for cursor, _ in lines] == [True, True]


@pytest.mark.parametrize("cursor", ["1-1", "99999999999999-0", "nonsense", "$", "1700000000000000-1", "0"])
async def test_a_cursor_that_is_not_kept_is_answered_by_a_reset_and_all_that_is(
    client: httpx.AsyncClient, telling: Feed, cursor: str
) -> None:
    await telling.started(LOCAL.ref("c", "m"), GenerationRequest("m", []))
    async with feed(client, cursor) as reader:
        assert await reader.hear() == (None, {"type": "reset"})
        await reader.hear_type("started")


async def test_a_reader_that_falls_behind_the_bound_is_told_so(client: httpx.AsyncClient, telling: Feed) -> None:
    request = GenerationRequest("m", [])
    await telling.started(LOCAL.ref("c", "first"), request)
    async with feed(client) as reader:
        cursor, _ = await reader.hear()
    for number in range(MOST_KEPT + 2 * PAGE):
        await telling.started(LOCAL.ref("c", str(number)), request)
    async with feed(client, cursor) as reader:
        assert await reader.hear() == (None, {"type": "reset"})
        while (await reader.hear())[1].get("message_id") != str(MOST_KEPT + 2 * PAGE - 1):
            pass
        numbers = [int(event["message_id"]) for _, event in reader.told[1:]]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))


async def test_a_feed_is_told_to_its_user_alone(make_gateway: MakeGateway) -> None:
    async with make_gateway(api_keys="a=acme/ann,b=acme/bob") as gateway:
        async with gateway.client("a") as ann, gateway.client("b") as bob, feed(bob) as reader:
            for who, message in ((ann, "of-ann"), (bob, "of-bob")):
                body = {"messages": [{"role": "user", "content": "x"}], "message_id": message}
                assert (await who.post("/chats/c/messages", json=body)).status_code == 202
            assert (await reader.hear_type("started"))["message_id"] == "of-bob"


async def test_the_same_lines_come_over_a_socket(gateway: LiveGateway, client: httpx.AsyncClient) -> None:
    async with open_socket(gateway.url) as socket, feed(client) as reader:
        await socket.say("feed", sub="f")
        await socket.hear_kind("open", "f")
        await started(client)
        await client.post("/chats/c/messages/m/stop")
        lines = [await reader.hear(), await reader.hear()]
        entries = await socket.hear_entries("f", 2)
        assert [(entry["id"], entry["event"]) for entry in entries] == lines
        await socket.say("feed", sub="g", after="1-1")
        entries = await socket.hear_entries("g", 3)
        assert entries[0] == {"event": {"type": "reset"}}


async def test_a_feed_that_cannot_be_written_fails_no_start(client: httpx.AsyncClient, link: Link) -> None:
    await link.call("SET", feed_key(LOCAL.scope), "not a stream")
    await started(client)
    await client.post("/chats/c/messages/m/stop")


async def test_a_feed_breaks_off_to_rotate_and_never_ends(make_gateway: MakeGateway) -> None:
    async with make_gateway(rotate_s=0.1, heartbeat_s=0.2) as gateway, gateway.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            async with feed(client) as reader:
                await reader.hear()
        await wait_until(lambda: not gateway.services.hub.viewers)


async def test_a_worker_that_is_killed_is_told_of_by_whoever_ends_its_message(
    client: httpx.AsyncClient, link: Link, telling: Feed, log: Log
) -> None:
    owner = LogWriter(telling_log(link, telling, log), await started(client), lease_ms=50)
    await owner.claim()
    end = encode_event(ev.End("failed", error=ev.Failure("worker_lost", "x")))

    async def forced() -> bool:
        meta = await owner.log.meta(owner.ref)
        assert meta is not None
        return (await owner.log.force(meta, Ending("failed", b"{}", end))).status == "ok"

    await wait_until(forced)
    async with feed(client) as reader:
        await reader.hear_type("started")
        assert (await reader.hear_type("ended"))["state"] == "failed"


async def test_the_deletion_of_a_response_is_told(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/responses", json={"model": "scripted", "input": "?", "background": True})).json()
    assert (await client.delete(f"/v1/responses/{made['id']}")).status_code == 200
    async with feed(client) as reader:
        assert (await reader.hear_type("deleted"))["message_id"] == made["id"]


async def test_who_has_the_line_that_is_taken_out_last_goes_on_behind_it(client: httpx.AsyncClient) -> None:
    await started(client, "before")
    async with feed(client) as reader:
        await reader.hear_type("started")
        await started(client, "c")
        cursor, _ = await reader.hear()
        await client.delete("/chats/c/messages/m")
        await reader.hear_type("deleted")
    async with feed(client, cursor) as reader:
        await reader.hear_type("deleted")
