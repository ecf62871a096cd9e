"""Where a stream begins: cursors good and bad, snapshots, the stream of a chat, a full gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from gateway.access.principal import LOCAL
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, running, sse_data, sse_types, started
from tests.support.redis import RedisServer
from tests.support.wait import wait_until
from tests.support.writer import LogWriter


async def test_a_start_can_be_answered_by_its_stream(client: httpx.AsyncClient, log: Log) -> None:
    body = {**ASK, "message_id": "m"}
    headers = {"accept": "text/event-stream"}
    async with client.stream("POST", "/chats/c/messages", json=body, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["location"] == "/chats/c/messages/m/stream"
        writer = LogWriter(log, LOCAL.ref("c", "m"))
        await writer.claim()
        await writer.finish()
        text = (await response.aread()).decode()
    assert sse_types(text) == ["created", "attempt", "end"]


async def test_a_chat_without_anything_to_deliver_is_204(client: httpx.AsyncClient) -> None:
    assert (await client.get("/chats/nobody/stream")).status_code == 204
    await started(client)
    await client.post("/chats/c/messages/m/stop")
    response = await client.get("/chats/c/stream")
    assert (response.status_code, response.content) == (204, b"")


async def test_a_chat_whose_active_message_expired_unrenewed_has_nothing_to_deliver(
    client: httpx.AsyncClient, log: Log, link: Link
) -> None:
    writer = await running(client, log)
    keys = log_keys(writer.ref)
    await link.call("DEL", keys.meta, keys.stream)
    assert await log.active(writer.ref.tenant, "c") == "m"
    seen: tuple[dict[str, str], ...] = ({}, {"last-event-id": f"{writer.own.epoch}-2"})
    for headers in seen:
        response = await client.get("/chats/c/stream", headers=headers)
        assert (response.status_code, response.content) == (204, b"")


async def test_a_viewer_of_a_chat_that_was_cut_off_before_the_end_still_gets_it(
    client: httpx.AsyncClient, log: Log
) -> None:
    writer = await running(client, log)
    await writer.append(b'{"type":"text-start","id":"t0"}')
    await writer.say("a", "b")
    await writer.finish()
    entries = await log.read_all(writer.ref)
    types = [msgspec.json.decode(entry.raw)["type"] for entry in entries]
    for at, entry in enumerate(entries):
        for headers, query in (({"last-event-id": str(entry.cursor)}, ""), ({}, f"?after={entry.cursor}")):
            response = await client.get(f"/chats/c/stream{query}", headers=headers)
            if at == len(entries) - 1:
                own = await client.get(f"/chats/c/messages/m/stream{query}", headers=headers)
                for answer in (response, own):
                    assert (answer.status_code, answer.content) == (204, b"")
                    assert answer.headers["cache-control"] == "no-store"
            else:
                assert sse_types(response.text) == types[at + 1 :]


async def test_who_comes_back_to_a_chat_gets_the_rest_of_its_own_message_beside_others(
    client: httpx.AsyncClient, log: Log
) -> None:
    older = await running(client, log, "c", "m1")
    await running(client, log, "c", "m2")
    at = str((await log.read_all(older.ref))[-1].cursor)
    async with asyncio.timeout(10), client.stream("GET", "/chats/c/stream", headers={"last-event-id": at}) as response:
        await older.finish()
        assert sse_types((await response.aread()).decode()) == ["end"]
    await running(client, log, "d", "m1")
    newer = await running(client, log, "d", "m2")
    last = str((await log.read_all(newer.ref))[-1].cursor)
    await newer.finish()
    assert await log.active(LOCAL.scope, "d") == "m1"
    assert sse_types((await client.get("/chats/d/stream", headers={"last-event-id": last})).text) == ["end"]


async def test_a_chats_cursor_of_a_message_that_another_followed_begins_the_other_by_a_reset(
    client: httpx.AsyncClient, log: Log
) -> None:
    """So, too, does a browser that has all of a message and comes back by itself."""
    first = await running(client, log, "c", "m1")
    await first.finish()
    second = await running(client, log, "c", "m2")
    for entry in await log.read_all(first.ref):
        async with client.stream("GET", "/chats/c/stream", headers={"last-event-id": str(entry.cursor)}) as response:
            lines = [line async for line in _until(response, '"attempt"')]
        assert sse_types("\n".join(lines)) == ["reset", "created", "attempt"]
    await second.finish()


async def _until(response: httpx.Response, mark: str) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        yield line
        if mark in line:
            return


BAD = [
    "5",
    "-1",
    "$",
    "0-0",
    "*",
    "x",
    "1700000000000000",
    "1700000000000000-0",
    "\uff11\uff17\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10-1",
    "1-1-1",
    "9" * 40,
]


@pytest.mark.parametrize("cursor", BAD)
async def test_a_malformed_cursor_is_an_error_in_a_query_and_a_reset_in_a_header(
    client: httpx.AsyncClient, cursor: str
) -> None:
    await started(client)
    await client.post("/chats/c/messages/m/stop")
    for path in ("/chats/c/messages/m/stream", "/chats/c/stream"):
        refused = await client.get(path, params={"after": cursor})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_cursor")
    raw = {b"last-event-id": cursor.encode()}
    replay = await client.get("/chats/c/messages/m/stream", headers=raw)
    assert replay.status_code == 200
    types = sse_types(replay.text)
    assert (types[:2], types[-1]) == (["reset", "created"], "end")


async def test_a_foreign_or_future_cursor_is_an_error_in_a_query_and_a_reset_in_a_header(
    client: httpx.AsyncClient, log: Log
) -> None:
    other = await running(client, log, message="other")
    await started(client, policy="parallel")
    await client.post("/chats/c/messages/m/stop")
    last = (await log.read_all(LOCAL.ref("c", "m")))[-1].cursor
    foreign = (await log.read_all(other.ref))[-1].cursor
    for cursor in (str(foreign), f"{last.epoch}-{last.seq + 1}", f"{last.epoch + 5}-{last.seq}"):
        refused = await client.get("/chats/c/messages/m/stream", params={"after": cursor})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_cursor")
        replay = await client.get("/chats/c/messages/m/stream", headers={"last-event-id": cursor})
        types = sse_types(replay.text)
        assert (types[:2], types[-1]) == (["reset", "created"], "end")


async def test_a_header_wins_over_the_query_it_was_reconnected_with(client: httpx.AsyncClient, log: Log) -> None:
    await started(client)
    await client.post("/chats/c/messages/m/stop")
    entries = await log.read_all(LOCAL.ref("c", "m"))
    header = {"last-event-id": str(entries[2].cursor)}
    for query in (f"?after={entries[0].cursor}", "?from=snapshot"):
        response = await client.get(f"/chats/c/messages/m/stream{query}", headers=header)
        assert sse_types(response.text) == ["end"]


async def test_a_stream_begins_with_a_snapshot_if_asked(client: httpx.AsyncClient, log: Log) -> None:
    writer = await running(client, log)
    await writer.append(b'{"type":"text-start","id":"t0"}')
    await writer.say("one ", "two")
    await writer.finish()
    got = sse_data((await client.get("/chats/c/messages/m/stream?from=snapshot")).text)
    assert [event["type"] for event in got] == ["snapshot", "end"]
    assert got[0]["message"]["parts"][0]["text"] == "one two"
    for query in ("from=middle", f"from=snapshot&after={(await log.read_all(writer.ref))[0].cursor}"):
        assert (await client.get(f"/chats/c/messages/m/stream?{query}")).status_code == 400


async def test_a_full_gateway_turns_viewers_away_without_ending_their_stream(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_viewers=1) as gateway, gateway.client() as client:
        await started(client)
        url = "/chats/c/messages/m/stream"
        async with client.stream("GET", url) as first:
            await wait_until(lambda: len(gateway.services.hub.viewers) == 1)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(url)
            await client.post("/chats/c/messages/m/stop")
            text = (await first.aread()).decode()
        assert sse_data(text)[-1]["type"] == "end"


@pytest.mark.parametrize("path", ["/chats/c/stream", "/api/chat/c/stream"])
async def test_a_chat_whose_answer_redis_has_just_lost_is_not_called_idle(
    make_gateway: MakeGateway, log: Log, redis_server: RedisServer, path: str
) -> None:
    """Its owner is about to write it back; a 204 would be taken for good."""
    async with make_gateway() as gateway, gateway.client() as client:
        writer = await running(client, log)
        await writer.say("Weirs ")
        entries = await log.read_all(writer.ref)
        with redis_server.admin() as admin:
            admin.flushdb()
            admin.client_kill_filter(_type="normal", skipme=True)
        await wait_until(lambda: gateway.services.hub.restoring)
        stats = gateway.services.log._link.stats
        before = stats.commands
        asking = asyncio.create_task(client.get(path))
        await wait_until(lambda: asking.done() or stats.commands >= before + 6)  # it has looked, more than once
        await writer.restore(entries)
        await wait_until(lambda: asking.done() or gateway.services.hub.tails == 1)
        await writer.finish()
        answer = await asking
    assert (answer.status_code, "Weirs " in answer.text) == (200, True)
