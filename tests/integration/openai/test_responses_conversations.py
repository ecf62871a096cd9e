"""Responses that go on from others: chains, answered calls, named items, and how long a conversation may be."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from gateway.openai.responses_input import MOST_RESPONSES
from shared import events as ev
from shared.jobs import decode_request
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.integration.openai.conftest import Take
from tests.integration.openai.test_responses_objects import WEATHER, finished, start, texts
from tests.support.openai_kit import ASK, Worker, sdk


async def sent(log: Log, worker: Worker) -> list[tuple[str, Any]]:
    """Return role and content of what went to the model."""
    request = decode_request(await log.request(worker.ref) or b"")
    return [(message["role"], message["content"]) for message in request.messages]


async def test_a_chain_is_rebuilt_from_the_last_response_without_its_instructions(
    client_of_gateway: openai.AsyncOpenAI, take: Take, log: Log
) -> None:
    first = await finished(client_of_gateway, take, "One.", input="a", instructions="Be brief.")
    second = await finished(client_of_gateway, take, "Two.", input="b", previous_response_id=first)
    third = await start(client_of_gateway, input="c", previous_response_id=second, instructions="Be long.")
    assert await sent(log, await take(third)) == [
        ("system", "Be long."),
        *(("user", "a"), ("assistant", "One.")),
        *(("user", "b"), ("assistant", "Two.")),
        ("user", "c"),
    ]
    items = [item async for item in client_of_gateway.responses.input_items.list(third, order="asc", limit=2)]
    assert texts(items) == ["a", "One.", "b", "Two.", "c"]
    assert (await client_of_gateway.responses.retrieve(third)).previous_response_id == second


async def test_a_call_is_answered_in_the_next_response(
    client_of_gateway: openai.AsyncOpenAI, take: Take, log: Log
) -> None:
    worker = await take(await start(client_of_gateway, tools=[WEATHER]))
    await worker.write(ev.Start("m"), ev.StartStep(), ev.ReasoningStart("r0"), ev.ReasoningDelta("r0", "Where?"))
    await worker.write(ev.ReasoningEnd("r0"), ev.ToolInputAvailable("call_1", "weather", {"city": "Ribe"}))
    await worker.end()
    response = await client_of_gateway.responses.retrieve(worker.ref.message_id)
    [thought, call] = response.output
    assert call.type == "function_call"
    summary = {"type": "reasoning", "id": "rs_x", "summary": [{"type": "summary_text", "text": "Where?"}]}
    outputs: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sun"}]
    by_chain = await take(await start(client_of_gateway, input=outputs, previous_response_id=response.id))
    forms: Any = [
        [thought.to_dict(), call.to_dict()],
        [summary, call.to_dict()],
        [{"type": "item_reference", "id": item.id} for item in response.output],
    ]
    by_hand = [
        await take(await start(client_of_gateway, input=[{"role": "user", "content": ASK}, *form, *outputs]))
        for form in forms
    ]
    chats = [decode_request(await log.request(each.ref) or b"").messages for each in (by_chain, *by_hand)]
    assert all(chat == chats[0] for chat in chats)
    assert chats[0][1]["reasoning_content"] == "Where?"
    assert chats[0][1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Ribe"}'}
    assert chats[0][2] == {"role": "tool", "tool_call_id": "call_1", "content": "sun"}


async def test_a_call_whose_arguments_are_no_json_is_one_that_any_model_reads_once_it_is_answered(
    client_of_gateway: openai.AsyncOpenAI, take: Take, log: Log
) -> None:
    worker = await take(await start(client_of_gateway, tools=[WEATHER]))
    await worker.write(ev.Start("m"), ev.StartStep(), ev.ToolInputError("call_1", "weather", '{"city', "no JSON"))
    await worker.end()
    response = await client_of_gateway.responses.retrieve(worker.ref.message_id)
    outputs: Any = [{"type": "function_call_output", "call_id": "call_1", "output": "no JSON"}]
    given: Any = [{"role": "user", "content": ASK}, *(item.to_dict() for item in response.output), *outputs]
    by_chain = await take(await start(client_of_gateway, input=outputs, previous_response_id=response.id))
    by_hand = await take(await start(client_of_gateway, input=given))
    for each in (by_chain, by_hand):
        messages = decode_request(await log.request(each.ref) or b"").messages
        assert messages[1]["tool_calls"][0]["function"]["arguments"] == '{"not_json":"{\\"city"}'
        assert messages[2] == {"role": "tool", "tool_call_id": "call_1", "content": "no JSON"}
    left = await take(await start(client_of_gateway, input="Never mind.", previous_response_id=response.id))
    assert await sent(log, left) == [("user", ASK), ("user", "Never mind.")]


async def test_a_long_conversation_of_named_items_is_read_up_to_a_bound_that_is_told(
    client_of_gateway: openai.AsyncOpenAI, take: Take, log: Log
) -> None:
    """The AI SDK names every item of the conversation so far, as long as it is."""

    async def said(word: str) -> Any:
        worker = await take(await start(client_of_gateway))
        await worker.write(ev.Start("m"), ev.StartStep(), ev.ReasoningStart("r0"), ev.ReasoningEnd("r0"))
        await worker.write(ev.TextStart("t0"), ev.TextDelta("t0", word))
        await worker.end()
        response = await client_of_gateway.responses.retrieve(worker.ref.message_id)
        return [{"type": "item_reference", "id": item.id} for item in response.output]

    words = [str(number) for number in range(MOST_RESPONSES + 1)]
    named = [
        item
        for begin in range(0, len(words), 32)
        for items in await asyncio.gather(*map(said, words[begin : begin + 32]))
        for item in items
    ]
    last = await take(await start(client_of_gateway, input=[*named[:-2], {"role": "user", "content": "on"}]))
    assert await sent(log, last) == [*(("assistant", word) for word in words[:-1]), ("user", "on")]
    with pytest.raises(openai.BadRequestError) as caught:
        await start(client_of_gateway, input=named)
    assert caught.value.param == f"input[{len(named) - 2}]"
    assert str(MOST_RESPONSES) in caught.value.message


async def test_a_stopped_response_can_be_gone_on_from_and_a_failed_or_unfinished_one_cannot(
    client_of_gateway: openai.AsyncOpenAI, take: Take, log: Log
) -> None:
    worker = await take(await start(client_of_gateway))
    await worker.say("Half")
    name = worker.ref.message_id
    with pytest.raises(openai.BadRequestError) as caught:
        await start(client_of_gateway, previous_response_id=name)
    assert caught.value.code == "response_in_progress"
    await worker.end("aborted")
    following = await take(await start(client_of_gateway, input="on", previous_response_id=name))
    assert await sent(log, following) == [("user", ASK), ("assistant", "Half"), ("user", "on")]
    await following.say("x")
    await following.end("failed", ev.Failure("upstream_error", "No."))
    with pytest.raises(openai.BadRequestError) as caught:
        await start(client_of_gateway, previous_response_id=following.ref.message_id)
    assert (caught.value.code, caught.value.param) == ("previous_response_failed", "previous_response_id")


@pytest.mark.parametrize("given", [[], [{"type": "reasoning", "id": "rs_1", "summary": []}]])
async def test_input_without_a_message_is_refused_unless_something_went_before(
    client_of_gateway: openai.AsyncOpenAI, take: Take, log: Log, given: Any
) -> None:
    """As OpenAI does: instructions alone are nothing to answer."""
    for more in ({}, {"instructions": "Be brief."}):
        with pytest.raises(openai.BadRequestError) as caught:
            await start(client_of_gateway, input=given, **more)
        assert (caught.value.code, caught.value.param) == ("empty_array", "input")
    before = await finished(client_of_gateway, take, "Locks.")
    following = await take(await start(client_of_gateway, input=given, previous_response_id=before))
    assert await sent(log, following) == [("user", ASK), ("assistant", "Locks.")]


async def test_a_chain_does_not_grow_beyond_what_a_request_may_be(make_gateway: MakeGateway, take: Take) -> None:
    async with make_gateway(max_body_bytes=3000) as live, sdk(live.url) as client:
        name = await finished(client, take, "y" * 1000, input="x" * 1000)
        with pytest.raises(openai.APIStatusError) as caught:
            await start(client, input="z" * 1000, previous_response_id=name)
        assert caught.value.status_code == 413


@pytest.mark.parametrize("times", [2, 4], ids=["with what it holds", "by themselves"])
async def test_naming_items_does_not_make_a_request_larger_than_it_may_be(
    make_gateway: MakeGateway, take: Take, times: int
) -> None:
    async with make_gateway(max_body_bytes=3000) as live, sdk(live.url) as client:
        name = await finished(client, take, "y" * 1000)
        item: Any = {"type": "item_reference", "id": f"msg_{name.removeprefix('resp_')}_0"}
        following = await start(client, input=[item, {"role": "user", "content": "z"}])
        assert (await client.responses.retrieve(following)).status == "queued"
        with pytest.raises(openai.APIStatusError) as caught:
            await start(client, input=[*[item] * times, {"role": "user", "content": "z" * 1000}])
        assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
