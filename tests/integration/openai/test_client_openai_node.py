"""The unmodified `openai` package of npm: the same main paths, by the same proxy, on the same two gateways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from deploy.scripted_model.text import full_reasoning, full_text
from tests.integration.openai.road import ClientRoad, cut
from tests.integration.openai.test_client_openai_python import CHAT_TOOL, RESPONSE_TOOL, say
from tests.support.node import NodeProgram
from tests.support.wait import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[NodeProgram]:
    async with NodeProgram("openai/sdk.mjs") as program:
        yield program
        assert await program.ask("unhandled") == []


def body(prompt: str, **more: Any) -> dict[str, Any]:
    """Return a completion's parameters."""
    return {"model": "scripted", "messages": say(prompt), **more}


def given(prompt: Any, **more: Any) -> dict[str, Any]:
    """Return a response's parameters."""
    return {"model": "scripted", "input": prompt, **more}


async def test_a_streamed_completion_with_reasoning_and_usage(road: ClientRoad, node: NodeProgram) -> None:
    prompt = "Locks [[tokens=40 rate=400 reasoning=6 key=node-chat]]"
    got = await node.ask("chat_stream", url=road.proxy.url, body=body(prompt, stream_options={"include_usage": True}))
    assert got["error"] is None
    assert got["text"] == full_text(say(prompt))
    assert got["reasoning"] == full_reasoning(say(prompt))
    assert got["finish"] == ["stop"]
    assert got["usage"][-1]["completion_tokens"] == 46
    assert set(map(str, got["usage"][:-1])) == {"None"}
    assert len(await road.calls("node-chat")) == 1


async def test_the_helpers_the_streams_and_the_wholes_agree(road: ClientRoad, node: NodeProgram) -> None:
    prompt = "Weirs [[tokens=30 rate=0 reasoning=3]]"
    url = road.proxy.url
    whole = await node.ask("chat_whole", url=url, body=body(prompt))
    helped = await node.ask("chat_helper", url=url, body=body(prompt, stream_options={"include_usage": True}))
    assert whole["choices"][0]["message"]["content"] == helped["content"] == full_text(say(prompt))
    assert helped["final"]["choices"][0]["message"]["content"] == helped["content"]
    assert helped["final"]["choices"][0]["finish_reason"] == "stop"
    response = await node.ask("response_whole", url=url, body=given(prompt))
    streamed = await node.ask("response_stream", url=url, body=given(prompt))
    final = await node.ask("response_helper", url=url, body=given(prompt))
    assert response["output_text"] == streamed["text"] == final["output_text"] == full_text(say(prompt))
    assert [event["sequence_number"] for event in streamed["events"]] == list(range(len(streamed["events"])))
    assert final["kinds"] == [event["type"] for event in streamed["events"]]
    assert [item["type"] for item in final["final"]["output"]] == ["reasoning", "message"]
    assert final["final"]["usage"] == response["usage"]


async def test_tools_on_both_wires(road: ClientRoad, node: NodeProgram) -> None:
    prompt = "Weather? [[tool=2 rate=0]]"
    url = road.proxy.url
    whole = await node.ask("chat_whole", url=url, body=body(prompt, tools=[CHAT_TOOL]))
    helped = await node.ask("chat_helper", url=url, body=body(prompt, tools=[CHAT_TOOL]))
    calls = [(call["id"], call["function"]) for call in whole["choices"][0]["message"]["tool_calls"]]
    told = helped["final"]["choices"][0]["message"]["tool_calls"]
    assert len(calls) == 2
    assert [(call["id"], {k: call["function"][k] for k in ("name", "arguments")}) for call in told] == calls
    first = await node.ask("response_helper", url=url, body=given(prompt, tools=[RESPONSE_TOOL]))
    asked = [item for item in first["final"]["output"] if item["type"] == "function_call"]
    assert [(item["call_id"], item["arguments"]) for item in asked] == [(i, f["arguments"]) for i, f in calls]
    outputs = [{"type": "function_call_output", "call_id": item["call_id"], "output": "sun"} for item in asked]
    chained = given(outputs, tools=[RESPONSE_TOOL], previous_response_id=first["final"]["id"])
    second = await node.ask("response_whole", url=url, body=chained)
    assert "sun" in second["output_text"]


async def test_a_background_response_survives_a_reset_every_few_events(road: ClientRoad, node: NodeProgram) -> None:
    prompt = "Canals [[tokens=200 rate=120 reasoning=8 key=node-flagship]]"
    road.proxy.plan(cut(5, match=b"POST /v1/responses"), *(cut(4 + n % 9, match=b"starting_after") for n in range(12)))
    got = await node.ask("background", url=road.proxy.url, body=given(prompt))
    assert got["error"] is None
    assert got["resumes"] == 13
    assert [event["sequence_number"] for event in got["events"]] == list(range(len(got["events"])))
    assert got["text"] == full_text(say(prompt))
    assert got["events"][-1]["type"] == "response.completed"
    again = await node.ask("helper_resume", url=road.gateways[0].url, id=got["id"], after=None)
    assert (again["output_text"], again["status"]) == (got["text"], "completed")
    assert again["events"] == got["events"]
    assert len(await road.calls("node-flagship")) == 1


async def test_the_helper_resumes_by_a_full_replay_on_the_other_gateway(road: ClientRoad, node: NodeProgram) -> None:
    prompt = "Canals [[tokens=40 rate=200]]"
    head = await node.ask("begin", url=road.gateways[0].url, body=given(prompt), most=12)
    tail = await node.ask("helper_resume", url=road.gateways[1].url, id=head["id"], after=11)
    assert tail["events"][0]["sequence_number"] == 12
    said = "".join(event.get("delta", "") for event in head["events"] if event["type"] == "response.output_text.delta")
    assert said + tail["text"] == tail["output_text"] == full_text(say(prompt))


async def test_cancel_items_chain_and_delete(road: ClientRoad, node: NodeProgram) -> None:
    first, second = (gateway.url for gateway in road.gateways)
    slow = await node.ask("begin", url=first, body=given("Tides [[tokens=4000 rate=100 key=node-cancel]]"), most=9)
    cancelled = await node.ask("cancel", url=second, id=slow["id"])
    assert cancelled["status"] == "cancelled"
    assert (await node.ask("cancel", url=first, id=slow["id"]))["status"] == "cancelled"
    ended = await node.ask("helper_resume", url=first, id=slow["id"], after=None)
    assert ended["status"] == "cancelled"

    async def closed() -> bool:
        return [call["outcome"] for call in await road.calls("node-cancel")] == ["client_gone"]

    await wait_until(closed)
    one = await node.ask("response_whole", url=first, body=given("Piers [[tokens=9 rate=0]]"))
    chained = given("And? [[tokens=7 rate=0]]", previous_response_id=one["id"])
    two = await node.ask("response_whole", url=second, body=chained)
    items = await node.ask("input_items", url=first, id=two["id"])
    assert [item["content"][0]["text"] for item in items][1:] == [one["output_text"], "And? [[tokens=7 rate=0]]"]
    assert await node.ask("delete", url=first, id=one["id"])
    gone = await node.ask("error", of="retrieve", url=second, id=one["id"])
    assert (gone["name"], gone["status"]) == ("NotFoundError", 404)
    assert gone["body"]["message"] == f"Response with id '{one['id']}' not found."
    assert await node.ask("models", url=first) == ["scripted", "no-prefill", "over-responses"]


async def test_errors_are_its_own_and_never_a_second_generation(road: ClientRoad, node: NodeProgram) -> None:
    url = road.proxy.url
    failed = await node.ask("error", of="chat_whole", url=url, body=body("Dams [[rate=0 fault=eof@5 key=node-fail]]"))
    assert (failed["status"], failed["code"], failed["shouldRetry"]) == (502, "upstream_interrupted", "false")
    streamed = await node.ask("chat_stream", url=url, body=body("Dams [[rate=0 fault=eof@5 key=node-fail]]"))
    assert streamed["error"]["code"] == "upstream_interrupted"
    helped = await node.ask("error", of="chat_helper", url=url, body=body("Dams [[rate=0 fault=eof@5 key=node-fail]]"))
    assert helped["code"] == "upstream_interrupted"
    response = await node.ask("response_helper", url=url, body=given("Dams [[rate=0 fault=eof@5 key=node-fail]]"))
    assert (response["final"]["status"], response["kinds"][-1]) == ("failed", "response.failed")
    assert len(await road.calls("node-fail")) == 4
    late = await node.ask(
        "error", of="chat_whole", url=url, body=body("Tides [[tokens=200 rate=20 key=node-late]]"),
        options={"timeout": 2000},
    )  # fmt: skip
    assert (late["status"], late["code"]) == (504, "still_running")
    assert len(await road.calls("node-late")) == 1
    for wrong, status in (({"n": 2}, 400), ({"model": "none"}, 404), ({"messages": []}, 400)):
        refused = await node.ask("error", of="chat_whole", url=url, body=body("x", **wrong))
        assert refused["status"] == status
