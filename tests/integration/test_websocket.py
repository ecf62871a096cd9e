"""Many messages over one WebSocket: each cursor its own, the same entries as over SSE, codes that can be obeyed."""

from __future__ import annotations

import asyncio
import base64
import time

import httpx
import jwt
import pytest

from gateway.socket_session import MOST_SUBSCRIPTIONS, SocketSession
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import LiveGateway, running, started
from tests.support.sockets import PROTOCOL, open_socket
from tests.support.wait import wait_until
from tests.support.writer import LogWriter

START = b'{"type":"text-start","id":"t0"}'
SECRET = "a-secret-for-tests-of-32-bytes-or-more"


async def written(client: httpx.AsyncClient, log: Log, message: str, *words: str) -> LogWriter:
    """Start and claim a message and write `words`."""
    writer = await running(client, log, message=message)
    await writer.append(START)
    await writer.say(*words)
    return writer


async def ids(log: Log, writer: LogWriter) -> list[str]:
    return [str(entry.cursor) for entry in await log.read_all(writer.ref)]


async def test_messages_share_a_socket_and_each_keeps_its_own_order(
    gateway: LiveGateway, client: httpx.AsyncClient, log: Log
) -> None:
    one, two = await written(client, log, "one", "a"), await written(client, log, "two", "b", "c")
    second = await ids(log, two)
    async with open_socket(gateway.url) as socket:
        assert (await socket.hear())["type"] == "ready"
        await socket.say("subscribe", sub="x", chat_id="c", message_id="one")
        await socket.say("resume", chat_id="c", message_id="two", after=second[1])
        for word in ("d", "e"):
            await one.say(word)
            await two.say(word)
        await one.finish()
        await two.finish()
        await socket.told_kind("done", "two")
        await socket.told_kind("done", "x")
        assert [entry["id"] for entry in socket.entries("x")] == await ids(log, one)
        assert [entry["id"] for entry in socket.entries("two")] == (await ids(log, two))[2:]
        assert socket.entries("x")[-1]["event"]["type"] == "end"


async def test_a_socket_brings_what_the_stream_brings_after_a_cut_at_every_entry(
    make_gateway: MakeGateway, log: Log
) -> None:
    async with make_gateway() as first, make_gateway() as second, first.client() as client:
        writer = await written(client, log, "m", *'one\u2028 two "three" \\ four'.split(" "))
        await writer.finish()
        entries = [{"id": str(entry.cursor), "raw": entry.raw} for entry in await log.read_all(writer.ref)]
        for at, entry in enumerate(entries):
            async with open_socket((first, second)[at % 2].url) as socket:
                await socket.say("resume", chat_id="c", message_id="m", after=entry["id"])
                await socket.hear_kind("done", "m")
                rest = [each["id"] for each in socket.entries("m")]
                assert rest == [each["id"] for each in entries[at + 1 :]]


async def test_a_cursor_of_another_log_is_answered_by_a_reset_and_a_replay(
    gateway: LiveGateway, client: httpx.AsyncClient, log: Log
) -> None:
    writer = await written(client, log, "m", "a")
    await writer.finish()
    async with open_socket(gateway.url) as socket:
        await socket.say("resume", sub="s", chat_id="c", message_id="m", after="1700000000000000-3")
        await socket.hear_kind("done", "s")
    reset, *rest = socket.entries("s")
    assert reset == {"event": {"type": "reset", "keep_seq": 0, "reason": "replay", "replay": True}}
    assert [entry["id"] for entry in rest] == await ids(log, writer)


async def test_a_snapshot_comes_first_and_the_tail_follows(
    gateway: LiveGateway, client: httpx.AsyncClient, log: Log
) -> None:
    writer = await written(client, log, "m", "a", "b")
    last = (await ids(log, writer))[-1]
    async with open_socket(gateway.url) as socket:
        await socket.say("subscribe", sub="s", chat_id="c", message_id="m", snapshot=True)
        (first,) = await socket.hear_entries("s", 1)
        assert (first["id"], first["event"]["type"]) == (last, "snapshot")
        assert first["event"]["message"]["parts"][0]["text"] == "ab"
        await writer.say("c")
        entries = await socket.hear_entries("s", 2)
        assert entries[1]["event"] == {"type": "text-delta", "id": "t0", "delta": "c"}


async def test_what_cannot_be_followed_is_told_and_the_socket_goes_on(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway(lease_ms=2000) as gateway, gateway.client() as client:
        writer = await written(client, log, "m")
        async with open_socket(gateway.url) as socket:
            await socket.say("resume", sub="bad", chat_id="c", message_id="m", after="5")
            fault = await socket.hear_kind("error", "bad")
            assert (fault["code"], fault["status"], fault["retry"]) == ("invalid_cursor", 400, False)
            await socket.say("subscribe", sub="none", chat_id="c", message_id="nobody")
            fault = await socket.hear_kind("error", "none")
            assert (fault["code"], fault["status"], fault["retry"]) == ("not_found", 404, False)
            await socket.say("subscribe", sub="id", chat_id="", message_id="m")
            assert (await socket.hear_kind("error", "id"))["code"] == "invalid_id"
            await socket.say("subscribe", sub="s", chat_id="c", message_id="m")
            await socket.say("subscribe", sub="s", chat_id="c", message_id="m")
            assert (await socket.hear_kind("error", "s"))["code"] == "conflict"
            await socket.say("ping")
            await socket.hear_kind("pong")
            await writer.finish()
            await socket.hear_kind("done", "s")
            await socket.say("resume", sub="t", chat_id="c", message_id="m", after=(await ids(log, writer))[-1])
            await socket.hear_kind("done", "t")
            assert socket.entries("t") == []


async def test_a_message_is_stopped_over_the_socket(gateway: LiveGateway, client: httpx.AsyncClient) -> None:
    await started(client)
    async with open_socket(gateway.url) as socket:
        await socket.say("subscribe", sub="s", chat_id="c", message_id="m")
        await socket.say("stop", chat_id="c", message_id="m")
        stopped = await socket.hear_kind("stop")
        assert stopped == {"type": "stop", "chat_id": "c", "message_id": "m", "state": "aborted"}
        await socket.told_kind("done", "s")
        assert socket.entries("s")[-1]["event"]["state"] == "aborted"
        await socket.say("stop", sub="x", chat_id="c", message_id="other")
        assert (await socket.hear_kind("error", "x"))["code"] == "not_found"


async def test_an_ended_subscription_brings_nothing_and_frees_its_name(
    gateway: LiveGateway, client: httpx.AsyncClient, log: Log
) -> None:
    writer = await written(client, log, "m", "a")
    async with open_socket(gateway.url) as socket:
        await socket.say("subscribe", sub="s", chat_id="c", message_id="m")
        await socket.hear_entries("s", 4)
        await socket.say("unsubscribe", sub="s")
        await wait_until(lambda: gateway.services.hub.tails == 0)
        await writer.say("b")
        await socket.say("subscribe", sub="s", chat_id="c", message_id="m")
        assert len(await socket.hear_entries("s", 9)) == 9  # the four from before, then all five


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "garbage",
        "[]",
        "{}",
        '{"type":"novel"}',
        '{"type":"subscribe","sub":"s"}',
        '{"type":"subscribe","sub":"","chat_id":"c","message_id":"m"}',
        '{"type":"subscribe","sub":"' + "s" * 65 + '","chat_id":"c","message_id":"m"}',
        '{"type":"resume","chat_id":"c","message_id":"m"}',
        '{"type":"resume","chat_id":"c","message_id":"m","after":7}',
        "[" * 30_000,
        b"\x00\x01",
    ],
)
async def test_what_is_no_frame_closes_the_socket_for_good(gateway: LiveGateway, frame: str | bytes) -> None:
    async with open_socket(gateway.url) as socket:
        await socket.say_raw(frame)
        assert await socket.closed() == (4400, "bad_frame")


async def test_a_frame_beyond_the_bound_closes_the_socket(gateway: LiveGateway) -> None:
    async with open_socket(gateway.url) as socket:
        await socket.say_raw(" " * 70_000)
        assert (await socket.closed())[0] == 1009


async def test_a_socket_carries_so_many_subscriptions(
    gateway: LiveGateway, client: httpx.AsyncClient, log: Log
) -> None:
    await written(client, log, "m")
    async with open_socket(gateway.url) as socket:
        for number in range(MOST_SUBSCRIPTIONS):
            await socket.say("subscribe", sub=str(number), chat_id="c", message_id="m")
        await socket.say("feed", sub="one more")
        fault = await socket.hear_kind("error", "one more")
        assert (fault["code"], fault["status"], fault["retry"]) == ("limit_reached", 429, True)


async def test_a_silent_socket_is_pinged(make_gateway: MakeGateway) -> None:
    async with make_gateway(heartbeat_s=0.05) as gateway, open_socket(gateway.url) as socket:
        await socket.hear_kind("ping")


async def test_a_socket_is_asked_to_come_back(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway(rotate_s=0.1) as gateway, open_socket(gateway.url) as socket:
        assert await socket.closed() == (1012, "rotate")
    async with make_gateway() as gateway, gateway.client() as client:
        await written(client, log, "m")
        async with open_socket(gateway.url) as socket:
            await socket.say("subscribe", sub="s", chat_id="c", message_id="m")
            await socket.hear_entries("s", 3)
            gateway.services.hub.drain(0.1)
            assert await socket.closed() == (1012, "rotate")
        await wait_until(lambda: gateway.services.hub.tails == 0 and not gateway.services.hub.viewers)


async def test_a_full_gateway_says_to_come_back_later(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_viewers=1) as gateway, open_socket(gateway.url) as first:
        await first.hear_kind("ready")
        async with open_socket(gateway.url) as second:
            assert await second.closed() == (1013, "overloaded")


async def test_a_slow_socket_holds_up_itself_alone_and_misses_nothing(make_gateway: MakeGateway, log: Log) -> None:
    bound = 64 * 1024
    async with make_gateway(viewer_buffer_bytes=bound) as gateway, gateway.client() as client:
        writer = await written(client, log, "m")
        async with open_socket(gateway.url) as slow, open_socket(gateway.url) as quick:
            for socket in (slow, quick):
                await socket.say("subscribe", sub="s", chat_id="c", message_id="m")
                await socket.hear_entries("s", 3)
            slow.pause_reading()
            for _ in range(40):
                await writer.say(*["x" * 20_000] * 20)
            await writer.finish()
            await quick.hear_kind("done", "s")
            sessions = [viewer for viewer in gateway.services.hub.viewers if isinstance(viewer, SocketSession)]
            assert len(sessions) == 2
            waiting = [sum(map(len, session.outbox.frames)) for session in sessions]
            assert max(waiting) <= 2 * bound
            slow.resume_reading()
            await slow.hear_kind("done", "s")
            assert slow.entries("s") == quick.entries("s")


# -- who is asking


def token(**claims: object) -> str:
    return jwt.encode({"sub": "ann", "tenant": "acme", "exp": time.time() + 60, **claims}, SECRET, "HS256")


def as_protocol(credential: str) -> str:
    return "bearer." + base64.urlsafe_b64encode(credential.encode()).decode().rstrip("=")


async def test_a_credential_comes_in_a_header_or_among_the_subprotocols(make_gateway: MakeGateway) -> None:
    async with make_gateway(jwt_secret=SECRET, api_keys="k\u00e9y=acme/bob") as gateway:
        async with open_socket(gateway.url, authorization=f"Bearer {token()}") as socket:
            await socket.hear_kind("ready")
        for credential in (token(), "k\u00e9y"):
            async with open_socket(gateway.url, protocols=[PROTOCOL, as_protocol(credential)]) as socket:
                await socket.hear_kind("ready")


@pytest.mark.parametrize("protocols", [[], [PROTOCOL, as_protocol("nonsense")], [PROTOCOL, "bearer.\u0021"]])
async def test_whoever_is_not_known_is_told_so_and_to_stay_away(
    make_gateway: MakeGateway, protocols: list[str]
) -> None:
    async with make_gateway(jwt_secret=SECRET) as gateway:
        async with open_socket(gateway.url, protocols=protocols) as socket:
            assert await socket.closed() == (4401, "not_authenticated")


async def test_a_socket_ends_with_its_credential(make_gateway: MakeGateway) -> None:
    async with make_gateway(jwt_secret=SECRET) as gateway:
        brief = token(exp=int(time.time()) + 2)
        async with open_socket(gateway.url, authorization=f"Bearer {brief}") as socket:
            assert await socket.closed() == (4401, "credential_expired")


async def test_somebody_elses_message_is_like_one_that_does_not_exist(make_gateway: MakeGateway) -> None:
    async with make_gateway(api_keys="a=acme/ann,b=acme/bob") as gateway:
        async with gateway.client("a") as ann:
            await started(ann)
        async with open_socket(gateway.url, authorization="Bearer b") as socket:
            told = []
            for message in ("m", "nobody"):
                await socket.say("subscribe", sub="s", chat_id="c", message_id=message)
                told.append(await socket.hear_kind("error", "s"))
                await socket.say("stop", sub="s", chat_id="c", message_id=message)
                told.append(await socket.hear_kind("error", "s"))
            assert told[:2] == told[2:]
            assert {fault["code"] for fault in told} == {"not_found"}


async def test_another_sites_page_cannot_open_a_socket_to_an_open_gateway(gateway: LiveGateway) -> None:
    with pytest.raises(Exception, match="403"):
        async with open_socket(gateway.url, origin="https://example.org"):
            pass
    async with open_socket(gateway.url, origin="http://localhost:8001") as socket:
        await socket.hear_kind("ready")


async def test_a_client_that_leaves_leaves_nothing_behind(
    gateway: LiveGateway, client: httpx.AsyncClient, log: Log
) -> None:
    await written(client, log, "m")
    for _ in range(20):
        async with open_socket(gateway.url) as socket:
            await socket.say("subscribe", sub="s", chat_id="c", message_id="m")
            await socket.say("feed", sub="f")
            await socket.hear_entries("s", 1)
    hub = gateway.services.hub
    await wait_until(lambda: hub.tails == 0 and not hub.viewers)
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not {name for name in names if name.startswith("socket-")}
