"""Chat completions on the wire: form of the chunks, prefill, tools, lengths, and the real OpenAI SDK on top."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI, RateLimitError

from deploy.scripted_model.child import ModelProcess
from deploy.scripted_model.text import full_reasoning, full_text
from tests.unit.deploy.scripted_client import ScriptedClient, ask, text_of

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "tide_table",
        "parameters": {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]},
    },
}


@pytest.fixture
async def sdk(model: ModelProcess) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=model.base_url, api_key="any", max_retries=0) as openai:
        yield openai


async def test_a_stream_has_the_form_of_the_original(client: ScriptedClient) -> None:
    body = ask("form [[tokens=4 rate=0 reasoning=0]]", stream_options={"include_usage": True})
    lines = [line async for line in client.lines("/v1/chat/completions", body)]
    assert lines[-2:] == ["data: [DONE]", ""]
    role, *deltas, finish, usage = [json.loads(line[6:]) for line in lines[:-2] if line]
    assert role["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert [list(delta["choices"][0]["delta"]) for delta in deltas] == [["content"]] * 4
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4
    assert all(chunk["usage"] is None for chunk in (role, *deltas, finish))
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in (role, *deltas, finish, usage)}) == 1


async def test_the_stream_says_what_the_oracle_says(client: ScriptedClient) -> None:
    chunks = await client.chunks(ask("oracle [[rate=0 reasoning=1]]"))
    messages = [{"role": "user", "content": "oracle [[rate=0 reasoning=1]]"}]
    assert text_of(chunks) == full_text(messages)
    assert text_of(chunks, "reasoning_content") == full_reasoning(messages)


async def test_a_whole_answer_equals_the_streamed_one(client: ScriptedClient) -> None:
    body = ask("whole [[rate=0 reasoning=5]]")
    streamed = await client.chunks(body)
    whole = (await client.http.post("/v1/chat/completions", json={**body, "stream": False})).json()
    message = whole["choices"][0]["message"]
    assert message["content"] == text_of(streamed)
    assert message["reasoning_content"] == text_of(streamed, "reasoning_content")
    assert whole["object"] == "chat.completion"
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 5


async def test_a_prefill_is_continued_to_the_same_text_at_any_cut(client: ScriptedClient) -> None:
    asked = {"role": "user", "content": "prefill [[rate=0 markdown=1 reasoning=4]]"}
    whole = full_text([asked])
    for cut in (1, 2, 63, 64, 65, 200, len(whole) - 1, len(whole)):
        prefill = {"role": "assistant", "content": whole[:cut]}
        chunks = await client.chunks(ask("", messages=[asked, prefill]))
        assert whole[:cut] + text_of(chunks) == whole
        assert text_of(chunks, "reasoning_content") == ""


async def test_a_prefill_can_be_refused_like_newer_models_do(client: ScriptedClient) -> None:
    messages = [{"role": "user", "content": "no [[prefill=reject]]"}, {"role": "assistant", "content": "So"}]
    response = await client.http.post("/v1/chat/completions", json=ask("", messages=messages))
    assert response.status_code == 400
    assert "does not support assistant message prefill" in response.json()["error"]["message"]
    assert await client.say("no [[prefill=reject rate=0 tokens=2]]")


async def test_a_required_tool_is_called_with_fitting_arguments(client: ScriptedClient) -> None:
    chunks = await client.chunks(ask("call [[rate=0 reasoning=0]]", tools=[TOOL], tool_choice="required"))
    pieces = [delta for chunk in chunks for delta in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert set(pieces[0]) == {"index", "id", "type", "function"}
    assert pieces[0]["function"] == {"name": "tide_table", "arguments": ""}
    assert all(set(piece) == {"index", "function"} for piece in pieces[1:])
    assert list(json.loads("".join(piece["function"]["arguments"] for piece in pieces))) == ["port"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_tools_are_called_by_directive_or_name_only(client: ScriptedClient) -> None:
    async def reason(prompt: str, **body: Any) -> str:
        chunks = await client.chunks(ask(f"{prompt} [[rate=0 tokens=3]]", tools=[TOOL], **body))
        finish: str = chunks[-1]["choices"][0]["finish_reason"]
        return finish

    assert await reason("a", tool_choice="auto") == "stop"
    assert await reason("a [[tool=1]]") == "tool_calls"
    assert await reason("a [[tool=1]]", tool_choice="none") == "stop"
    assert await reason("a", tool_choice={"type": "function", "function": {"name": "tide_table"}}) == "tool_calls"


async def test_a_token_limit_ends_with_length(client: ScriptedClient) -> None:
    chunks = await client.chunks(ask("limit [[rate=0 reasoning=0 chunk=4]]", max_tokens=10))
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert full_text([{"role": "user", "content": "limit"}]).startswith(text_of(chunks))
    assert len(chunks) == 5  # role, 4 + 4 + 2 tokens, finish
    enough = await client.chunks(ask("limit [[rate=0 reasoning=0 tokens=10]]", max_tokens=10))
    assert enough[-1]["choices"][0]["finish_reason"] == "stop"


async def test_the_body_field_wins_over_the_prompt(client: ScriptedClient) -> None:
    chunks = await client.chunks(ask("w [[tokens=9 rate=0 reasoning=0]]", scripted={"tokens": 2, "chunk": 1}))
    assert len(chunks) == 4


@pytest.mark.parametrize("body", [b"", b"[]", b'{"messages":[]}', b'{"messages":[{"content":1}]}', b"[" * 100_000])
async def test_a_body_that_makes_no_sense_is_refused(client: ScriptedClient, body: bytes) -> None:
    response = await client.http.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_beyond_the_bound_is_refused(client: ScriptedClient) -> None:
    response = await client.http.post("/v1/chat/completions", content=b" " * (8 * 1024 * 1024 + 1))
    assert response.status_code == 413


async def test_the_models_are_listed(client: ScriptedClient, sdk: AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == ["scripted", "scripted-responses"]
    assert (await client.http.get("/healthz")).json()["status"] == "ok"


async def test_the_sdk_helper_reaches_its_final_completion(sdk: AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "sdk [[rate=0]]"}]
    async with sdk.chat.completions.stream(model="scripted", messages=messages) as stream:
        completion = await stream.get_final_completion()
    assert completion.choices[0].message.content == full_text(messages)


async def test_the_sdk_helper_collects_parallel_tool_calls(sdk: AsyncOpenAI) -> None:
    tools: Any = [TOOL]
    messages: Any = [{"role": "user", "content": "two [[rate=0 tool=2]]"}]
    async with sdk.chat.completions.stream(model="scripted", messages=messages, tools=tools) as stream:
        calls = (await stream.get_final_completion()).choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["tide_table"] * 2
    assert len({call.id for call in calls}) == 2


async def test_the_sdk_sees_refusals_and_errors_as_its_own_types(sdk: AsyncOpenAI) -> None:
    refused: Any = [{"role": "user", "content": "x [[status=429 retry_after=7]]"}]
    with pytest.raises(RateLimitError) as limited:
        await sdk.chat.completions.create(model="scripted", messages=refused)
    assert limited.value.response.headers["retry-after"] == "7"
    broken: Any = [{"role": "user", "content": "x [[rate=0 fault=error@3]]"}]
    with pytest.raises(APIError, match="told to fail"):
        async for _ in await sdk.chat.completions.create(model="scripted", messages=broken, stream=True):
            pass
