"""The Responses wire: event order, background answers that go on alone, re-attaching, cancelling, and the SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from deploy.scripted_model.child import ModelProcess
from deploy.scripted_model.text import full_text
from tests.unit.deploy.scripted_client import Json, ScriptedClient

PATH = "/v1/responses"


def request(prompt: str, **body: Any) -> Json:
    return {"model": "scripted-responses", "input": prompt, "stream": True, **body}


def said(events: list[Json]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def numbers(events: list[Json]) -> list[int]:
    return [event["sequence_number"] for event in events]


@pytest.fixture
async def sdk(model: ModelProcess) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=model.base_url, api_key="any", max_retries=0) as openai:
        yield openai


async def test_the_events_come_in_their_order(client: ScriptedClient) -> None:
    events = await client.events(PATH, request("order [[rate=0 tokens=2 reasoning=2]]"))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        *("output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        "completed",
    ]
    assert numbers(events) == list(range(len(events)))
    final = events[-1]["response"]
    assert [item["type"] for item in final["output"]] == ["reasoning", "message"]
    assert final["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


async def test_the_text_is_that_of_the_chat_wire(client: ScriptedClient) -> None:
    prompt = "same [[rate=0]]"
    events = await client.events(PATH, request(prompt, instructions="be brief"))
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": prompt}]
    assert said(events) == full_text(messages)
    whole = (await client.http.post(PATH, json=request(prompt, instructions="be brief", stream=False))).json()
    assert whole["output"][-1]["content"][0]["text"] == said(events)
    kept = (await client.http.get(f"{PATH}/{whole['id']}")).json()
    assert kept == whole


async def test_a_prefill_is_continued(client: ScriptedClient) -> None:
    asked = {"role": "user", "content": "prefill [[rate=0]]"}
    whole = full_text([asked])
    part = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": whole[:77]}]}
    assert whole[:77] + said(await client.events(PATH, request("", input=[asked, part]))) == whole


async def test_tools_are_called_and_their_output_is_used(client: ScriptedClient) -> None:
    tools = [{"type": "function", "name": "gauge", "parameters": {"type": "object", "properties": {"post": {}}}}]
    asked = {"role": "user", "content": "level? [[rate=0 reasoning=0]]"}
    events = await client.events(PATH, request("", input=[asked], tools=tools, tool_choice="required"))
    (call,) = events[-1]["response"]["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "gauge", "completed")
    done = next(event for event in events if event["type"] == "response.function_call_arguments.done")
    assert done["arguments"] == call["arguments"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "1.4 m"}
    after = request("", input=[asked, call, output], tools=tools, tool_choice="required")
    assert said(await client.events(PATH, after)).startswith("The tool gauge answered: 1.4 m.")


async def test_a_token_limit_makes_it_incomplete(client: ScriptedClient) -> None:
    events = await client.events(PATH, request("limit [[rate=0 reasoning=0]]", max_output_tokens=5))
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_background_answer_goes_on_and_is_taken_up_again(client: ScriptedClient) -> None:
    body = request("again [[rate=200 tokens=80 reasoning=0 fault=reset@20 key=again]]", background=True)
    lines, error = await client.spoiled(PATH, body)
    assert isinstance(error, httpx.ReadError)
    first = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert sum(event["type"] == "response.output_text.delta" for event in first) == 20
    response_id = first[0]["response"]["id"]
    rest = await client.events(f"{PATH}/{response_id}?stream=true&starting_after={numbers(first)[-1]}")
    assert said(first) + said(rest) == full_text([{"role": "user", "content": "again"}], {"tokens": 80})
    assert numbers(first + rest) == list(range(len(first) + len(rest)))
    assert await client.events(f"{PATH}/{response_id}?stream=true") == first + rest
    assert await client.events(f"{PATH}/{response_id}?stream=true&starting_after={len(first + rest)}") == []
    entry = await client.ended("again")
    assert (entry["outcome"], entry["tokens_sent"], entry["background"]) == ("done", 80, True)


async def test_a_background_answer_needs_no_stream(client: ScriptedClient) -> None:
    body = request("quiet [[rate=0 tokens=9 key=quiet]]", stream=False, background=True)
    created = (await client.http.post(PATH, json=body)).json()
    assert (created["status"], created["output"]) == ("queued", [])
    await client.ended("quiet")
    kept = (await client.http.get(f"{PATH}/{created['id']}")).json()
    assert kept["status"] == "completed"


async def test_cancelling_ends_a_background_answer_once_and_for_all(client: ScriptedClient) -> None:
    body = request("stop [[rate=50 endless=1 reasoning=0 key=stop]]", stream=False, background=True)
    response_id = (await client.http.post(PATH, json=body)).json()["id"]
    await client.wait_log("stop", lambda entries: bool(entries[0]["tokens_sent"]))
    for _ in range(2):
        cancelled = await client.http.post(f"{PATH}/{response_id}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    events = await client.events(f"{PATH}/{response_id}?stream=true")
    assert (events[-1]["type"], events[-1]["response"]["status"]) == ("response.incomplete", "cancelled")
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == said(events)
    assert (await client.ended("stop"))["outcome"] == "cancelled"


async def test_what_cannot_be_done_is_refused(client: ScriptedClient) -> None:
    whole = (await client.http.post(PATH, json=request("front [[rate=0]]", stream=False))).json()
    path = f"{PATH}/{whole['id']}"
    assert "background=true" in (await client.http.get(f"{path}?stream=true")).json()["error"]["message"]
    assert (await client.http.post(f"{path}/cancel")).status_code == 400
    assert (await client.http.get(f"{PATH}/resp_unknown?stream=true")).status_code == 404
    assert (await client.http.delete(path)).json()["deleted"] is True
    assert (await client.http.get(path)).status_code == 404
    back = (await client.http.post(PATH, json=request("b [[rate=0]]", stream=False, background=True))).json()
    bad = await client.http.get(f"{PATH}/{back['id']}?stream=true&starting_after=-2")
    assert bad.status_code == 400


async def test_failures_have_their_events(client: ScriptedClient) -> None:
    failed = await client.events(PATH, request("f [[rate=0 reasoning=0 fault=error@3]]"))
    assert failed[-1]["type"] == "response.failed"
    assert failed[-1]["response"]["error"]["code"] == "scripted_fault"
    plain = await client.events(PATH, request("f [[rate=0 reasoning=0 fault=string_error@3]]"))
    assert (plain[-1]["type"], plain[-1]["error"]["code"]) == ("error", "scripted_fault")
    cut = await client.events(PATH, request("f [[rate=0 reasoning=0 fault=eof@3]]"))
    assert cut[-1]["type"] == "response.output_text.delta"


async def test_the_sdk_helper_reaches_its_final_response(sdk: AsyncOpenAI) -> None:
    prompt = "helper [[rate=0 reasoning=3]]"
    async with sdk.responses.stream(model="scripted-responses", input=prompt) as stream:
        final = await stream.get_final_response()
    assert final.output_text == full_text([{"role": "user", "content": prompt}])


async def test_the_sdk_follows_a_background_answer(sdk: AsyncOpenAI) -> None:
    created = await sdk.responses.create(
        model="scripted-responses", input="follow [[rate=400 tokens=40 reasoning=0]]", background=True
    )
    stream = await sdk.responses.retrieve(created.id, stream=True, starting_after=2)
    events = [event async for event in stream]
    assert events[0].sequence_number == 3
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == full_text([{"role": "user", "content": "follow"}], {"tokens": 40})
