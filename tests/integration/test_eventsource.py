"""Pages that read with EventSource or with our module: cut in mid-stream, every reconnect on the other gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from deploy.scripted_model.text import full_text
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.node import Failed, NodeProgram
from tests.support.processes import ProcessGroup, ServerProcess, chat_model
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
KEY = "page-key"


@dataclass(frozen=True)
class Stage:
    """Two gateways behind a proxy that takes them in turn, and a Node to read from it."""

    proxy: FaultProxy
    gateways: list[ServerProcess]
    node: NodeProgram

    async def start(self, chat: str, prompt: str) -> str:
        """Start an answer; return the path of its stream."""
        body = {"messages": [{"role": "user", "content": prompt}]}
        async with httpx.AsyncClient(base_url=self.gateways[0].url, timeout=20) as client:
            answer = await client.post(f"/chats/{chat}/messages", json=body)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["stream_url"])

    async def stored(self, path: str) -> dict[str, Any]:
        """Return the message as the server has it."""
        async with httpx.AsyncClient(base_url=self.gateways[1].url, timeout=20) as client:
            view = (await client.get(path.removesuffix("/stream"))).json()
            message: dict[str, Any] = view["message"]
            return message


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(emptied_redis: RedisServer) -> AsyncIterator[Stage]:
    async with ProcessGroup() as group, NodeProgram("follow.mjs") as node:
        model = await group.model()
        models = [chat_model(model.port, default=True)]
        url = emptied_redis.url
        _, *gateways = await asyncio.gather(
            group.worker(url, models), group.gateway(url, models), group.gateway(url, models)
        )
        async with FaultProxy([("127.0.0.1", gateway.port) for gateway in gateways]) as proxy:
            yield Stage(proxy, gateways, node)


def prompt(subject: str) -> str:
    return f"Tell me about {subject} [[tokens=120 rate=250 reasoning=8 markdown=1]]"


def oracle(text: str) -> str:
    return full_text([{"role": "user", "content": text}])


def said(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def assert_once_each_and_in_order(ids: list[str]) -> None:
    numbers = [int(cursor.partition("-")[2]) for cursor in ids]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_an_event_source_is_cut_again_and_again(stage: Stage) -> None:
    path = await stage.start("source", prompt("rivers"))
    wanted = b"GET " + path.encode()
    stage.proxy.plan(*(Fault(match=wanted, cut_after=n, of=b"\nid: ") for n in (9, 12, 1, 6)))
    got = await stage.node.ask("overEventSource", url=stage.proxy.url + path, within_s=40)
    assert got["cuts"] == 4
    assert_once_each_and_in_order(got["ids"])
    assert said(got["message"]) == oracle(prompt("rivers"))
    assert got["message"] == await stage.stored(path)


async def test_an_event_source_is_turned_away_once_it_has_everything(stage: Stage) -> None:
    path = await stage.start("over", prompt("weirs"))
    got = await stage.node.ask("overFetch", url=stage.gateways[0].url + path)
    # A browser that does not know `end` asks again with its last id, and is told with a 204 to stop asking.
    async with httpx.AsyncClient(base_url=stage.gateways[1].url) as client:
        answer = await client.get(path, headers={"last-event-id": got["ids"][-1]})
        assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("how", ["reset", "close", "half_close"])
async def test_our_reader_is_cut_at_any_byte(stage: Stage, how: Any) -> None:
    path = await stage.start(f"reader-{how}", prompt(f"canals {how}"))
    wanted = b"GET " + path.encode()
    stage.proxy.plan(*(Fault(match=wanted, cut_after=n, how=how) for n in (1, 400, 777, 1501, 2048)))
    got = await stage.node.ask("overFetch", url=stage.proxy.url + path, within_s=40)
    assert_once_each_and_in_order(got["ids"])
    assert got["message"] == await stage.stored(path)
    assert said(got["message"]) == oracle(prompt(f"canals {how}"))
    assert got["states"].count("reconnecting") >= 4


async def test_a_connection_that_went_silent_is_given_up_and_replaced(stage: Stage) -> None:
    path = await stage.start("silent", prompt("lakes"))
    stage.proxy.plan(Fault(match=b"GET " + path.encode(), cut_after=5, of=b"\nid: ", how="silence"))
    got = await stage.node.ask("overFetch", url=stage.proxy.url + path, stallMs=1000, within_s=40)
    assert_once_each_and_in_order(got["ids"])
    assert got["message"] == await stage.stored(path)


async def test_three_messages_share_a_socket_that_is_cut(stage: Stage) -> None:
    names = ("ponds", "wells", "springs")
    paths = [await stage.start(f"socket-{name}", prompt(name)) for name in names]
    stage.proxy.plan(*(Fault(match=b"GET /ws", cut_after=n) for n in (1500, 4000, 9000)))
    socket = stage.proxy.url.replace("http", "ws") + "/ws"
    asked = [stage.node.ask("overSocket", socket=socket, url=path, within_s=40) for path in paths]
    for name, path, got in zip(names, paths, await asyncio.gather(*asked), strict=True):
        assert_once_each_and_in_order(got["ids"])
        assert got["message"] == await stage.stored(path)
        assert said(got["message"]) == oracle(prompt(name))
    opened = [line for line in stage.proxy.requests if "/ws" in line]
    assert len(opened) >= 3


@pytest.mark.parametrize("passed", [0, 1200])
async def test_a_socket_that_went_silent_is_given_up_and_replaced(stage: Stage, passed: int) -> None:
    paths = [await stage.start(f"mute-{passed}-{name}", prompt(name)) for name in ("bogs", "fens")]
    stage.proxy.plan(Fault(match=b"GET /ws", cut_after=passed, how="silence"))
    socket = stage.proxy.url.replace("http", "ws") + f"/ws?{passed}"
    asked = [stage.node.ask("overSocket", socket=socket, url=path, stallMs=1500, within_s=40) for path in paths]
    for path, got in zip(paths, await asyncio.gather(*asked), strict=True):
        assert_once_each_and_in_order(got["ids"])
        assert got["message"] == await stage.stored(path)


async def test_a_reader_of_what_does_not_exist_is_told_so_and_does_not_insist(stage: Stage) -> None:
    path = "/chats/nothing/messages/nobody/stream"
    with pytest.raises(Failed, match="Refused not_found"):
        await stage.node.ask("overFetch", url=stage.proxy.url + path)
    with pytest.raises(Failed, match="Refused not_found"):
        await stage.node.ask("overSocket", socket=stage.gateways[0].url.replace("http", "ws") + "/ws", url=path)
    assert sum(path in line for line in stage.proxy.requests) == 1


async def test_an_event_source_with_a_ticket(stage: Stage, redis_server: RedisServer) -> None:
    async with ProcessGroup() as group:
        guarded = await group.gateway(redis_server.url, [chat_model(1, default=True)], TAILRACE_API_KEYS=f"{KEY}=a/b")
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=guarded.url, headers=headers, timeout=20) as client:
            endless = "[[tokens=5000 rate=50]] tides"  # or it might be over before it is stopped
            body = {"messages": [{"role": "user", "content": endless}], "message_id": "m"}
            assert (await client.post("/chats/c/messages", json=body)).status_code == 202
            await client.post("/chats/c/messages/m/stop")
            asked = {"use": "stream", "chat_id": "c", "message_id": "m"}
            url = (await client.post("/tickets", json=asked)).json()["url"]
        got = await stage.node.ask("overEventSource", url=guarded.url + url)
        assert got["message"]["state"] in ("aborted", "failed")
        with pytest.raises(Failed, match="closed with 401"):
            await stage.node.ask("overEventSource", url=guarded.url + url.partition("?")[0])
