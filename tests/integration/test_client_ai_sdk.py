"""The AI SDK's real clients, unmodified: cut in mid-stream, reloaded, stopped; every resume on the other gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from deploy.scripted_model.text import full_text
from tests.integration.ai_sdk_client import (
    GRACE_S,
    Client,
    Stage,
    all_closed,
    assert_whole,
    kinds,
    oracle,
    text_of,
    user,
)
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.node import NodeProgram
from tests.support.processes import ProcessGroup, chat_model
from tests.support.redis import RedisServer
from tests.support.wait import wait_until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
VERSIONS = pytest.mark.parametrize("version", [7, 6])
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
POST, GET = b"POST /api/chat ", b"GET /api/chat/"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(emptied_redis: RedisServer) -> AsyncIterator[Stage]:
    async with ProcessGroup() as group, NodeProgram("ai_sdk.mjs") as node:
        model = await group.model()
        models = [
            chat_model(model.port, default=True),
            chat_model(model.port, name="restarts", prefill=False),
            {"name": "reader", "kind": "agent", "agent": "tests.integration.worker_agents:verbose"},
            {"name": "counting", "kind": "agent", "agent": "tests.integration.worker_agents:counting"},
        ]
        url = emptied_redis.url
        worker, *gateways = await asyncio.gather(
            group.worker(url, models, TAILRACE_LEASE_MS=2000),
            group.gateway(url, models, TAILRACE_LEASE_MS=2000, TAILRACE_END_GRACE_S=GRACE_S),
            group.gateway(url, models, TAILRACE_LEASE_MS=2000, TAILRACE_END_GRACE_S=GRACE_S),
        )
        yield Stage(group, emptied_redis, models, worker, gateways, node)
        assert await node.ask("unhandled") == []


@pytest_asyncio.fixture(loop_scope="module")
async def proxy(stage: Stage) -> AsyncIterator[FaultProxy]:
    """A way to both gateways in turn, connection by connection."""
    async with FaultProxy([("127.0.0.1", gateway.port) for gateway in stage.gateways]) as opened:
        yield opened


@VERSIONS
async def test_a_chat_is_cut_three_times_and_resumed(stage: Stage, proxy: FaultProxy, version: int) -> None:
    prompt = "Tell me about weirs [[tokens=80 rate=400 reasoning=0]]"
    chat_id = f"cut/{version} ä%?#"
    proxy.plan(Fault(match=POST, cut_after=4, of=b"data: "))
    proxy.plan(*(Fault(match=GET, cut_after=n, of=b"data: ") for n in (5, 6)))
    async with Client(stage, proxy, version, chat_id) as chat:
        await chat.send(prompt)
        assert (await chat.state())["status"] == "error"
        for _ in range(3):
            await chat.ask("resume")
        assert_whole(await chat.state(), oracle(prompt))
    assert [connection.upstream for connection in proxy.connections] == [0, 1, 0, 1]
    assert proxy.cuts == 3


@VERSIONS
@pytest.mark.parametrize("saved", ["user message", "partial answer"])
async def test_a_page_is_reloaded_in_mid_answer(stage: Stage, proxy: FaultProxy, version: int, saved: str) -> None:
    prompt = f"Tell me about locks {saved} [[tokens=80 rate=400 reasoning=12]]"
    chat_id = f"reload-{version}-{saved}"
    async with Client(stage, proxy, version, chat_id, hook=True) as page:
        sending = asyncio.create_task(page.send(prompt))
        before = (await page.said(40))["messages"]
    await sending
    messages = before if saved == "partial answer" else before[:1]
    async with Client(stage, proxy, version, chat_id, hook=True, resume=True, messages=messages) as page:
        state = await page.ready()
        assert_whole(state, oracle(prompt))
        assert kinds(state["messages"][1]) == ["step-start", "reasoning", "text"]
        assert state["messages"][1]["id"] == before[1]["id"]


@VERSIONS
async def test_an_answer_that_ended_in_the_gap_is_still_delivered_once(
    stage: Stage, proxy: FaultProxy, version: int
) -> None:
    prompt = "Tell me about sluices [[tokens=60 rate=400 reasoning=0]]"
    chat_id = f"gap-{version}"
    proxy.plan(Fault(match=POST, cut_after=5, of=b"data: "))
    async with Client(stage, proxy, version, chat_id, hook=True) as page:
        await page.send(prompt)
        asked = (await page.state())["messages"][:1]
        await wait_until(lambda: stage.record(chat_id)["st"] == "done")
    async with Client(stage, proxy, version, chat_id, hook=True, resume=True, messages=asked) as page:
        whole = await page.ready()
        assert_whole(whole, oracle(prompt))
        await wait_until(lambda: "told" in stage.record(chat_id))
    async with Client(stage, proxy, version, chat_id, hook=True, resume=True, messages=whole["messages"]) as page:
        assert_whole(await page.ready(), oracle(prompt))  # within the grace it is rebuilt, and is no second message
    await wait_until(lambda: stage.settled(chat_id))
    async with Client(stage, proxy, version, chat_id, hook=True, resume=True, messages=whole["messages"]) as page:
        await wait_until(lambda: sum("/stream " in line for line in proxy.requests) == 3)
        state = await page.ready(0)
        assert (state["messages"], state["seen"]) == (whole["messages"], [])


@VERSIONS
async def test_a_chat_is_stopped_from_another_place(stage: Stage, proxy: FaultProxy, version: int) -> None:
    prompt = "Tell me about mills [[tokens=4000 rate=100 reasoning=0]]"
    chat_id = f"stop/{version}"
    async with Client(stage, proxy, version, chat_id, hook=True) as page, httpx.AsyncClient() as elsewhere:
        sending = asyncio.create_task(page.send(prompt))
        await page.said(20)
        url = f"{stage.gateways[1].url}/api/chat/stop%2F{version}"
        stale = await elsewhere.post(f"{url}/stop", json={"activeStreamId": "another"})
        assert stale.json()["stopped"] is False
        stopped = await elsewhere.post(f"{url}/stop")
        assert stopped.json()["stopped"] is True
        await sending
        state = await page.ready()
        answer = text_of(state["messages"][-1])
        assert answer
        assert oracle(prompt).startswith(answer)
        assert all_closed(state["messages"][-1])
        assert (await elsewhere.get(f"{url}/stream")).status_code == 204


@VERSIONS
async def test_the_clients_own_stop_stops_nothing(stage: Stage, proxy: FaultProxy, version: int) -> None:
    """It is a disconnect: the answer goes on, and a resume shows all of it."""
    prompt = "Tell me about ponds [[tokens=80 rate=200 reasoning=0]]"
    async with Client(stage, proxy, version, f"away-{version}", hook=True) as page:
        sending = asyncio.create_task(page.send(prompt))
        await page.said(20)
        await page.ask("stop")
        await sending
        assert text_of((await page.ready())["messages"][1]) != oracle(prompt)
        await page.ask("resume")
        assert_whole(await page.ready(2), oracle(prompt))


@pytest.mark.parametrize(("version", "own_chat"), [(7, False), (7, True), (6, True)])
async def test_a_page_that_becomes_visible_again_resumes_by_itself(
    stage: Stage, proxy: FaultProxy, version: int, own_chat: bool
) -> None:
    """In a browser, that is. Not with `useChat` of ai 6 unless it is given a `Chat`: it would show the text twice."""
    prompt = "Tell me about brooks [[tokens=80 rate=300 reasoning=5]]"
    how: dict[str, Any] = {"hook": True, "resume": True, "chromium": True, "ownChat": own_chat}
    proxy.plan(Fault(match=POST, cut_after=5, of=b"data: "))
    async with Client(stage, proxy, version, f"visible/{version}/{own_chat}", **how) as page:
        await page.ask("until", asked=1)  # and told that there is nothing to resume
        await page.send(prompt)
        await page.ask("until", status="error")
        await page.ask("visible")
        assert_whole(await page.ready(2), oracle(prompt))


@VERSIONS
async def test_our_fetch_mends_a_chat_that_knows_of_nothing(stage: Stage, proxy: FaultProxy, version: int) -> None:
    prompt = "Tell me about bridges [[tokens=80 rate=300 reasoning=5]]"
    proxy.plan(Fault(match=POST, cut_after=5, of=b"data: "))
    proxy.plan(*(Fault(match=GET, cut_after=n, of=b"data: ") for n in (4, 3, 2)))
    async with Client(stage, proxy, version, f"mended/{version}", mending=True) as chat:
        await chat.send(prompt)
        state = await chat.state()
        assert_whole(state, oracle(prompt))
        assert [list(what) for what in state["seen"]] == [["finish"]]
    assert [connection.upstream for connection in proxy.connections] == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("more_cuts", [0, 4])
async def test_the_workflow_transport_reconnects_by_itself(stage: Stage, proxy: FaultProxy, more_cuts: int) -> None:
    """It gives up at its third failed reconnect, wherever that got it, unless told otherwise."""
    prompt = f"Tell me about ferries {more_cuts} [[tokens=120 rate=400 reasoning=5]]"
    cuts = 2 + more_cuts
    proxy.plan(Fault(match=POST, cut_after=3, of=b"data: "))
    proxy.plan(*(Fault(match=GET, cut_after=2, of=b"data: ") for _ in range(cuts)))
    how: dict[str, Any] = {"workflow": True, "workflowId": bool(more_cuts)}
    if more_cuts:
        how["maxConsecutiveErrors"] = 3 + more_cuts
    async with Client(stage, proxy, 7, f"flow-{more_cuts}", hook=True, **how) as page:
        await page.send(prompt)
        state = await page.ready()
        assert_whole(state, oracle(prompt))
        assert [list(what) for what in state["seen"]] == [["finish"]]
    assert [connection.upstream for connection in proxy.connections] == [n % 2 for n in range(2 + cuts)]
    resumed = [line.split(" ")[1].split("startIndex=")[1] for line in proxy.requests[1:]]
    assert resumed == [str(2 + n) for n in range(cuts + 1)]


async def test_the_workflow_transport_after_a_reload(stage: Stage, proxy: FaultProxy) -> None:
    prompt = "Tell me about canals [[tokens=80 rate=300 reasoning=0]]"
    how: dict[str, Any] = {"workflow": True, "workflowId": True, "hook": True}
    async with Client(stage, proxy, 7, "flow/reload", **how) as page:
        sending = asyncio.create_task(page.send(prompt))
        before = (await page.said(30))["messages"]
    await sending
    proxy.plan(Fault(match=GET, cut_after=5, of=b"data: "))
    async with Client(stage, proxy, 7, "flow/reload", resume=True, messages=before[:1], **how) as page:
        assert_whole(await page.ready(), oracle(prompt))
    await wait_until(lambda: stage.settled("flow/reload"))
    for chat_id in ("flow/reload", "never seen"):
        async with Client(stage, proxy, 7, chat_id, resume=True, **how) as page:
            state = await page.ready()
            assert (state["messages"], state.get("error")) == ([], None)


@VERSIONS
async def test_a_tool_answers_and_the_message_goes_on(stage: Stage, proxy: FaultProxy, version: int) -> None:
    prompt = "How is the weather? [[tokens=40 rate=300 reasoning=0]]"
    body = {"tools": [WEATHER], "tool_choice": "required"}
    async with Client(stage, proxy, version, f"tool-{version}", body=body, automatic=True) as chat:
        await chat.send(prompt)
        called = (await chat.state())["messages"][1]
        call = called["parts"][-1]
        assert (call["type"], call["state"]) == ("tool-weather", "input-available")
        proxy.plan(Fault(match=POST, cut_after=5, of=b"data: "))
        await chat.ask(
            "toolOutput", args=[{"tool": "weather", "toolCallId": call["toolCallId"], "output": {"sky": "grey"}}]
        )
        await chat.ask("until", status="error")
        await chat.ask("resume")
        state = await chat.state()
        assert_whole(state, _after_tool(prompt, call))
        answer = state["messages"][1]
        assert answer["id"] == called["id"]
        assert kinds(answer) == ["step-start", "tool-weather", "step-start", "text"]
        assert (answer["parts"][1]["state"], answer["parts"][1]["output"]) == ("output-available", {"sky": "grey"})
        assert answer["parts"][1]["input"] == call["input"]
        assert sum("toolCall" in what for what in state["seen"]) == 1


@VERSIONS
async def test_an_agent_that_answered_its_own_call_is_not_asked_again(
    stage: Stage, proxy: FaultProxy, version: int
) -> None:
    chat_id = f"own-tool-{version}"
    async with Client(stage, proxy, version, chat_id, body={"model": "reader"}, automatic=True, chromium=True) as chat:
        await chat.send("5")  # over once the chat has nothing more to send by itself
        state = await chat.ready()
    assert [kinds(message) for message in state["messages"][1:]] == [["step-start", "tool-read", "step-start", "text"]]
    assert state["traffic"]["asked"] == 1


@VERSIONS
async def test_a_model_that_counts_its_calls_anew_in_every_turn_has_each_answered(
    stage: Stage, proxy: FaultProxy, version: int
) -> None:
    """`useChat` finds a call by its id, in all of the chat."""
    async with Client(stage, proxy, version, f"counting-{version}", body={"model": "counting"}, automatic=True) as chat:
        await chat.send("Look around")
        for place in ("here", "there"):
            call = (await chat.state())["messages"][1]["parts"][-1]
            assert call["state"] == "input-available"
            await chat.ask("toolOutput", args=[{"tool": "look", "toolCallId": call["toolCallId"], "output": place}])
            await chat.ready(2 if place == "here" else 3)
        assert_whole(await chat.state(), "here there")


@VERSIONS
async def test_our_fetch_mends_a_message_that_goes_on_before_its_first_event(
    stage: Stage, proxy: FaultProxy, version: int
) -> None:
    """The sender has the call, which a replay of the whole message would show once more."""
    prompt = "How is the weather there? [[tokens=40 rate=300 reasoning=0]]"
    body = {"tools": [WEATHER], "tool_choice": "required"}
    how: dict[str, Any] = {"automatic": True, "mending": True, "path": "/api/chat?x=1"}
    async with Client(stage, proxy, version, f"mended/tool/{version}", body=body, **how) as chat:
        await chat.send(prompt)
        call = (await chat.state())["messages"][1]["parts"][-1]
        proxy.plan(Fault(match=b"POST /api/chat", cut_after=1, of=b"retry: "))
        proxy.plan(*(Fault(match=GET, cut_after=n, of=what) for n, what in ((1, b"retry: "), (3, b"data: "))))
        await chat.ask(
            "toolOutput", args=[{"tool": "weather", "toolCallId": call["toolCallId"], "output": {"sky": "grey"}}]
        )
        state = await chat.ready(2)
        assert_whole(state, _after_tool(prompt, call))
        assert kinds(state["messages"][1]) == ["step-start", "tool-weather", "step-start", "text"]
        assert sum("toolCall" in what for what in state["seen"]) == 1
    asked = [line.split(" ")[1].rpartition("/")[2] for line in proxy.requests[-3:]]
    assert asked == ["stream?startIndex=0&x=1", "stream?startIndex=0&x=1", "stream?x=1"]


def _after_tool(prompt: str, call: dict[str, Any]) -> str:
    function = {"name": "weather", "arguments": "{}"}
    return full_text([
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": call["toolCallId"], "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call["toolCallId"], "content": '{"sky":"grey"}'},
    ])  # fmt: skip


@VERSIONS
async def test_a_busy_chat_refuses_a_message_and_lets_a_regeneration_win(
    stage: Stage, proxy: FaultProxy, version: int
) -> None:
    long, short = "Tell me about tides [[tokens=4000 rate=100]]", "Only this [[tokens=20 rate=0 reasoning=0]]"
    chat_id = f"busy-{version}"
    async with Client(stage, proxy, version, chat_id) as chat:
        sending = asyncio.create_task(chat.send(long))
        await chat.said(20)
        async with Client(stage, proxy, version, chat_id, messages=[user(long)]) as other:
            await other.send("And this?")
            state = await other.state()
            assert state["status"] == "error"
            assert '"code":"chat_busy"' in state["error"]
        async with Client(stage, proxy, version, chat_id, messages=[user(short)]) as other:
            await other.ask("regenerate")
            assert_whole(await other.state(), oracle(short))
            first = (await other.state())["messages"][1]["id"]
            await other.ask("regenerate", args=[{"messageId": first}])
            state = await other.state()
            assert_whole(state, oracle(short))
            assert state["messages"][1]["id"] != first
            edited = "Rather this [[tokens=12 rate=0 reasoning=0]]"
            await other.ask("send", args=[{"text": edited, "messageId": "u1"}])
            assert_whole(await other.state(), oracle(edited))
        await sending


@VERSIONS
async def test_the_last_message_alone_is_enough(stage: Stage, proxy: FaultProxy, version: int) -> None:
    first, second, third = (f"{word} turn [[tokens=15 rate=0 reasoning=0]]" for word in ("First", "Second", "Third"))
    async with Client(stage, proxy, version, f"turns-{version}", lastMessageOnly=True) as chat:
        await chat.send(first)
        await chat.send(second)
        answer = oracle(first, oracle(first), second)
        assert_whole(await chat.state(), answer, messages=4)
        await chat.ask("regenerate")
        assert_whole(await chat.state(), answer, messages=4)
        asked = (await chat.state())["messages"][2]["id"]
        await chat.ask("send", args=[{"text": third, "messageId": asked}])
        assert_whole(await chat.state(), oracle(first, oracle(first), third), messages=4)


@VERSIONS
async def test_a_failure_is_shown_once(stage: Stage, proxy: FaultProxy, version: int) -> None:
    chat_id = f"fails-{version}"
    async with Client(stage, proxy, version, chat_id, hook=True) as page:
        await page.send("Tell me about [[status=400 error_body=text]]")
        state = await page.ask("until", status="error")
        assert "refused" in state["error"]
        messages = state["messages"]
    await wait_until(lambda: "told" in stage.record(chat_id))
    async with Client(stage, proxy, version, chat_id, hook=True, resume=True, messages=messages) as page:
        await wait_until(lambda: sum("/stream " in line for line in proxy.requests) == 1)
        assert (await page.ready(0))["seen"] == []


async def test_a_worker_dies_and_every_client_shows_the_second_attempt(stage: Stage, proxy: FaultProxy) -> None:
    """Of a model that cannot go on from a part: live viewers, late ones, and those that say it in the stream."""
    prompt = "Tell me about dams [[tokens=150 rate=60 reasoning=0]]"
    how: dict[str, Any] = {"body": {"model": "restarts"}}
    clients = {
        "break-7": Client(stage, proxy, 7, "reset-break-7", **how),
        "break-6": Client(stage, proxy, 6, "reset-break-6", **how),
        "step": Client(stage, proxy, 7, "reset-step-7", path="/api/chat?reset=step", **how),
        "workflow": Client(stage, proxy, 7, "reset-workflow", workflow=True),
        "mend-step": Client(stage, proxy, 7, "reset-mend-step", path="/api/chat?reset=step", mending=True, **how),
        "mend-7": Client(stage, proxy, 7, "reset-mend-7", hook=True, resume=True, mending=True, **how),
        "mend-6": Client(stage, proxy, 6, "reset-mend-6", hook=True, resume=True, mending=True, **how),
    }
    second = await stage.group.worker(stage.redis.url, stage.models, TAILRACE_LEASE_MS=2000)
    second.freeze()
    for client in clients.values():
        await client.__aenter__()
    sending = [asyncio.create_task(client.send(prompt, body={"model": "restarts"})) for client in clients.values()]
    for client in clients.values():
        await client.said(30)
    await stage.worker.kill()
    second.thaw()
    await asyncio.gather(*sending)
    for name, client in clients.items():
        if name.endswith(("-7", "-6")):
            await client.ask("until", status="error")
            await client.ask("resume")
        else:
            assert [list(what) for what in (await client.state())["seen"]] == [["finish"]]
    for client in clients.values():
        state = await client.ask("until", status="ready", text=len(oracle(prompt)))
        assert_whole(state, oracle(prompt))
        assert kinds(state["messages"][1]) == ["step-start", "text"]
        await client.__aexit__()
