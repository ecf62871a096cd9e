"""Reading a message, a chat and what is in flight: always what the log says at that moment."""

from __future__ import annotations

from typing import Any, get_args

import httpx
import msgspec

from gateway.access.principal import LOCAL
from gateway.index import MOST_LISTED
from shared.fold import fold
from shared.link import Link
from shared.log.keys import log_keys, user_key
from shared.log.log import Log
from shared.log.types import TERMINAL
from shared.message import Message, MessageState
from tests.integration.conftest import MakeGateway
from tests.support.gateway import LiveGateway, indexed, running, started
from tests.support.log import run_out
from tests.support.writer import LogWriter


async def test_a_message_is_read_as_its_log_folds_at_every_moment(client: httpx.AsyncClient, log: Log) -> None:
    ref = await started(client)
    writer = LogWriter(log, ref)

    async def read() -> tuple[dict[str, Any], Message]:
        view = (await client.get("/chats/c/messages/m")).json()
        return view, msgspec.convert(view["message"], Message)

    async def same_as_log(state: str) -> None:
        view, message = await read()
        entries = await log.read_all(ref)
        assert message == fold(entry.event for entry in entries)
        assert view["cursor"] == str(entries[-1].cursor)
        assert (view["status"]["state"], message.state) == (state, state)

    await same_as_log("queued")
    await writer.claim()
    await same_as_log("running")
    await writer.append(b'{"type":"text-start","id":"t0"}')
    for word in ("one ", "two ", "three"):
        await writer.say(word)
        await same_as_log("running")
    await client.post("/chats/c/messages/m/stop")
    await run_out(log._link, ref)
    assert (await client.post("/chats/c/messages/m/stop")).json()["state"] == "aborted"
    await same_as_log("aborted")
    _, message = await read()
    assert message.text == "one two three"


async def test_a_log_of_many_pages_is_read_whole(client: httpx.AsyncClient, log: Log) -> None:
    writer = await running(client, log)
    await writer.append(b'{"type":"text-start","id":"t0"}')
    for at in range(0, 2500, 500):
        await writer.say(*(f"{n} " for n in range(at, at + 500)))
    view = (await client.get("/chats/c/messages/m")).json()
    assert view["message"]["parts"][0]["text"] == "".join(f"{n} " for n in range(2500))
    assert view["cursor"].endswith(f"-{writer.seq}")


async def test_the_final_message_outlives_the_log_and_then_it_is_gone(
    client: httpx.AsyncClient, log: Log, link: Link
) -> None:
    ref = await started(client)
    await client.post("/chats/c/messages/m/stop")
    keys = log_keys(ref)
    before = (await client.get("/chats/c/messages/m")).json()
    await link.call("DEL", keys.stream)  # what the replay period does
    assert (await client.get("/chats/c/messages/m")).json() == before
    assert (await client.get("/chats/c/messages/m/stream")).status_code == 410
    await link.call("DEL", keys.meta)  # what the retention period does
    for method, path in (("GET", ""), ("GET", "/stream"), ("POST", "/stop")):
        response = await client.request(method, f"/chats/c/messages/m{path}")
        assert (response.status_code, response.json()["error"]["code"]) == (410, "gone")
    await link.call("DEL", keys.tomb)
    assert (await client.get("/chats/c/messages/m")).status_code == 404


async def test_the_periods_are_settings_that_redis_keeps(make_gateway: MakeGateway, link: Link) -> None:
    periods = {"replay_s": 100, "retain_s": 200, "tombstone_s": 300}
    async with make_gateway(**periods) as gateway, gateway.client() as client:
        keys = log_keys(await started(client))
        await client.post("/chats/c/messages/m/stop")
        for key, seconds in ((keys.stream, 100), (keys.meta, 200), (keys.tomb, 300)):
            assert seconds * 900 < await link.call("PTTL", key) <= seconds * 1000


async def test_a_chat_tells_what_is_in_flight_and_how_it_stands(
    client: httpx.AsyncClient, log: Log, link: Link
) -> None:
    async def phases() -> dict[str, tuple[str, str, int, bool]]:
        listed = (await client.get("/chats/c")).json()["messages"]
        return {m["message_id"]: (m["state"], m["phase"], m["attempt"], m["can_stop"]) for m in listed}

    assert await phases() == {}
    await started(client, message="m1")
    writer = await running(client, log, message="m2")
    assert await phases() == {"m1": ("queued", "waiting", 0, True), "m2": ("running", "generating", 1, True)}
    await run_out(link, writer.ref)
    assert (await phases())["m2"] == ("running", "recovering", 1, True)
    await writer.claim(1)
    await log.release(writer.own)
    assert (await phases())["m2"] == ("queued", "recovering", 1, True)
    again = LogWriter(log, writer.ref)
    await again.claim(1)
    await client.post("/chats/c/messages/m2/stop")
    assert (await phases())["m2"] == ("running", "stopping", 2, False)
    await again.finish()
    assert list(await phases()) == ["m1"]


async def test_active_lists_over_all_chats_and_forgets_what_is_over(
    gateway: LiveGateway, client: httpx.AsyncClient, log: Log, link: Link
) -> None:
    for n in range(4):
        await started(client, f"chat/{n}", "m")
    refs = [LOCAL.ref(f"chat/{n}", "m") for n in range(4)]
    writer = LogWriter(log, refs[0])
    await writer.claim()
    await writer.finish()  # nobody tells the index
    await link.call("DEL", log_keys(refs[1]).meta)
    listed = (await client.get("/active")).json()["messages"]
    assert [m["chat_id"] for m in listed] == ["chat/2", "chat/3"]
    assert await indexed(gateway.services) == 2


async def test_active_finds_what_runs_behind_more_that_is_over_than_it_lists(
    client: httpx.AsyncClient, link: Link
) -> None:
    await started(client, "first", "m")
    last = await started(client, "last", "m")
    index, later = user_key(LOCAL.scope), 2_000_000_000
    over = [LOCAL.ref(f"over{n}", "m").member for n in range(2 * MOST_LISTED)]
    await link.call("ZADD", index, later + 1, last.member, *(arg for member in over for arg in (later, member)))
    listed = (await client.get("/active")).json()["messages"]
    assert [m["chat_id"] for m in listed] == ["first", "last"]


def test_the_states_a_reader_can_meet_are_the_declared_ones() -> None:
    assert set(get_args(MessageState)) == {"queued", "running"} | (TERMINAL - {"deleted"})
