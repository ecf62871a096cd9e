"""The unmodified `openai` package over real sockets, two gateways and a network that resets connections."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from deploy.scripted_model.text import full_reasoning, full_text
from tests.integration.openai.road import ClientRoad, cut
from tests.support.fault_proxy import Fault
from tests.support.openai_kit import Collector, text_of
from tests.support.wait import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FUNCTION: dict[str, Any] = {
    "name": "weather",
    "description": "The weather somewhere.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "strict": True,
}
CHAT_TOOL: Any = {"type": "function", "function": FUNCTION}
RESPONSE_TOOL: Any = {"type": "function", **FUNCTION}


def say(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


# -- chat completions


async def test_a_streamed_completion_with_reasoning_and_usage(road: ClientRoad) -> None:
    prompt = "Locks [[tokens=40 rate=400 reasoning=6 key=chat-stream]]"
    async with road.sdk() as client:
        stream = await client.chat.completions.create(
            model="scripted", messages=say(prompt), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert text_of(chunks) == full_text(say(prompt))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == full_reasoning(say(prompt))
    assert [choice.finish_reason for choice in chunks[-2].choices] == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 46
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert len(await road.calls("chat-stream")) == 1


@pytest.mark.parametrize("model", ["scripted", "over-responses"])
async def test_the_helper_the_stream_and_the_whole_agree(road: ClientRoad, model: str) -> None:
    prompt = "Weirs [[tokens=30 rate=0]]"
    async with road.sdk() as client:
        whole = await client.chat.completions.create(model=model, messages=say(prompt))
        async with client.chat.completions.stream(model=model, messages=say(prompt)) as stream:
            events = [event async for event in stream]
            helped = await stream.get_final_completion()
    assert whole.choices[0].message.content == helped.choices[0].message.content == full_text(say(prompt))
    assert whole.choices[0].finish_reason == helped.choices[0].finish_reason == "stop"
    assert [event.type for event in events][-1] == "content.done"
    assert whole.usage.completion_tokens == 30


async def test_tool_calls_come_together_in_the_helper_and_are_answered(road: ClientRoad) -> None:
    prompt = "Weather? [[tool=2 rate=0]]"
    async with road.sdk() as client:
        asked: dict[str, Any] = {"model": "scripted", "messages": say(prompt), "tools": [CHAT_TOOL]}
        whole = await client.chat.completions.create(**asked)
        async with client.chat.completions.stream(**asked) as stream:
            helped = await stream.get_final_completion()
        calls = whole.choices[0].message.tool_calls
        assert len(calls) == 2
        assert len({call.id for call in calls}) == 2
        for call, parsed in zip(calls, helped.choices[0].message.tool_calls, strict=True):
            assert (parsed.id, parsed.function.arguments) == (call.id, call.function.arguments)
            assert set(parsed.function.parsed_arguments) == {"city", "days"}
        assert helped.choices[0].finish_reason == whole.choices[0].finish_reason == "tool_calls"
        history = [*say(prompt), whole.choices[0].message.to_dict()]
        history += [{"role": "tool", "tool_call_id": call.id, "content": "sun"} for call in calls]
        after = await client.chat.completions.create(model="scripted", messages=history, tools=[CHAT_TOOL])
    assert after.choices[0].message.content == full_text(history)


async def test_parameters_that_nobody_here_knows_reach_the_model(road: ClientRoad) -> None:
    async with road.sdk() as client:
        extra = {"scripted": {"rate": 0, "tokens": 3, "key": "unknown"}, "top_k": 4}
        whole = await client.chat.completions.create(model="scripted", messages=say("Mills"), extra_body=extra)
    assert whole.choices[0].message.content == full_text(say("Mills"), {"tokens": 3})
    assert len(await road.calls("unknown")) == 1


async def test_a_reset_in_mid_stream_is_an_error_and_no_second_generation(road: ClientRoad) -> None:
    prompt = "Locks [[tokens=60 rate=100 key=chat-reset]]"
    road.proxy.plan(cut(12))
    async with road.sdk() as client:
        stream = await client.chat.completions.create(
            model="scripted", messages=say(prompt), stream=True, extra_headers={"idempotency-key": "chat-reset"}
        )
        got = await Collector(stream).over()
        assert isinstance(got.error, openai.APIConnectionError)
        assert full_text(say(prompt)).startswith(got.text)
        # By its key the same completion can be had again, from its beginning, on the other gateway.
        stream = await client.chat.completions.create(
            model="scripted", messages=say(prompt), stream=True, extra_headers={"idempotency-key": "chat-reset"}
        )
        again = [chunk async for chunk in stream]
    assert text_of(again) == full_text(say(prompt))
    assert again[: len(got.events)] == got.events
    assert [connection.upstream for connection in road.proxy.connections[-2:]] in ([0, 1], [1, 0])
    assert len(await road.calls("chat-reset")) == 1


async def test_a_reset_while_waiting_is_repeated_by_the_sdk_and_generated_once(road: ClientRoad) -> None:
    prompt = "Sluices [[tokens=30 rate=40 key=chat-wait]]"
    async with road.sdk() as client:
        asking = asyncio.create_task(
            client.chat.completions.create(
                model="scripted", messages=say(prompt), extra_headers={"idempotency-key": "chat-wait"}
            )
        )
        await wait_until(lambda: any(not c.cut and c.requests for c in road.proxy.connections[-1:]))

        async def called() -> bool:
            return bool(await road.calls("chat-wait"))

        await wait_until(called)
        road.proxy.cut()
        whole = await asking
    assert whole.choices[0].message.content == full_text(say(prompt))
    assert len(await road.calls("chat-wait")) == 1


@pytest.mark.parametrize(
    ("directive", "status", "calls"),
    [("status=400", 400, 1), ("fault=error@5", 502, 1), ("fault=eof@5", 502, 1), ("fault=reset@5", 502, 1)],
)
async def test_a_failure_of_the_model_is_not_repeated_by_the_sdk(
    road: ClientRoad, directive: str, status: int, calls: int
) -> None:
    key = directive.replace("=", "-").replace("@", "-")
    prompt = f"Dams [[rate=0 key={key} {directive}]]"
    async with road.sdk() as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="scripted", messages=say(prompt))
        assert caught.value.status_code == status
        with pytest.raises(openai.APIStatusError):
            await client.responses.create(model="scripted", input=prompt)
    assert len(await road.calls(key)) == 2 * calls


@pytest.mark.parametrize("model", ["scripted", "over-responses"])
async def test_a_code_of_the_models_that_clients_act_upon_reaches_them(road: ClientRoad, model: str) -> None:
    """On both wires, streamed or not; any other of its codes stays with us."""
    for said, told in (("context_length_exceeded", "context_length_exceeded"), ("cluster-7", "upstream_rejected")):
        prompt = f"Long [[status=400 error_code={said}]]"
        async with road.sdk() as client:
            for ask in (
                client.chat.completions.create(model=model, messages=say(prompt)),
                client.responses.create(model=model, input=prompt),
            ):
                with pytest.raises(openai.BadRequestError) as refused:
                    await ask
                assert (refused.value.code, refused.value.type) == (told, "invalid_request_error")
            with pytest.raises(openai.APIError) as broken:
                async for _ in await client.chat.completions.create(model=model, messages=say(prompt), stream=True):
                    pass
            assert (broken.value.code, broken.value.type) == (told, "invalid_request_error")
            stream = await client.responses.create(model=model, input=prompt, stream=True)
            last = [event async for event in stream][-1]
            assert last.type == "response.failed"
            assert last.response.to_dict()["error"].keys() == {"code", "message"}
            assert last.response.error is not None
            assert last.response.error.code == told


async def test_a_failure_in_mid_stream_raises_with_its_code(road: ClientRoad) -> None:
    prompt = "Dams [[rate=0 fault=eof@9 key=mid]]"
    async with road.sdk() as client:
        with pytest.raises(openai.APIError) as caught:
            async with client.chat.completions.stream(model="scripted", messages=say(prompt)) as stream:
                await stream.get_final_completion()
        assert caught.value.code == "upstream_interrupted"
        events = [event async for event in await client.responses.create(model="scripted", input=prompt, stream=True)]
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "upstream_interrupted"
    assert len(await road.calls("mid")) == 2


# -- responses


@pytest.mark.parametrize("model", ["scripted", "over-responses"])
async def test_the_responses_helper_the_stream_and_the_whole_agree(road: ClientRoad, model: str) -> None:
    prompt = "Ferries [[tokens=30 rate=0 reasoning=4]]"
    async with road.sdk() as client:
        whole = await client.responses.create(model=model, input=prompt)
        stream = await client.responses.create(model=model, input=prompt, stream=True)
        events = [event async for event in stream]
        async with client.responses.stream(model=model, input=prompt) as helper:
            helped = await helper.get_final_response()
    assert whole.output_text == helped.output_text == text_of(events) == full_text(say(prompt))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == whole.output_text
    assert [item.type for item in whole.output] == [item.type for item in helped.output] == ["reasoning", "message"]
    assert whole.output[0].content[0].text == full_reasoning(say(prompt))
    assert whole.usage.total_tokens == helped.usage.total_tokens > 0


@pytest.mark.parametrize("model", ["scripted", "over-responses"])
async def test_a_summary_of_reasoning_that_was_asked_for_is_where_clients_look_for_it(
    road: ClientRoad, model: str
) -> None:
    prompt = "Ferries [[tokens=9 rate=0 reasoning=4]]"
    asked: dict[str, Any] = {"model": model, "input": prompt, "reasoning": {"summary": "auto"}}
    async with road.sdk() as client:
        whole = await client.responses.create(**asked)
        async with client.responses.stream(**asked) as helper:
            deltas = [event.delta async for event in helper if event.type == "response.reasoning_summary_text.delta"]
            helped = await helper.get_final_response()
    for response in (whole, helped):
        assert [part.text for part in response.output[0].summary] == [full_reasoning(say(prompt))]
    assert "".join(deltas) == full_reasoning(say(prompt))


async def test_tools_in_responses_are_called_and_answered_by_a_chain(road: ClientRoad) -> None:
    prompt = "Weather? [[rate=0]]"
    async with road.sdk() as client:
        async with client.responses.stream(
            model="scripted", input=prompt, tools=[RESPONSE_TOOL], tool_choice="required"
        ) as helper:
            first = await helper.get_final_response()
        [call] = [item for item in first.output if item.type == "function_call"]
        assert set(call.parsed_arguments) == {"city", "days"}
        outputs: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sun"}]
        second = await client.responses.create(
            model="scripted", input=outputs, previous_response_id=first.id, tools=[RESPONSE_TOOL]
        )
    assert "sun" in second.output_text
    assert second.previous_response_id == first.id


async def test_a_background_response_survives_a_reset_every_few_events(road: ClientRoad) -> None:
    """The flagship: each resume is on the other gateway, and the events are those of one uninterrupted reader."""
    prompt = "Canals [[tokens=200 rate=120 reasoning=8 key=flagship]]"
    road.proxy.plan(cut(5, match=b"POST /v1/responses"), *(cut(4 + n % 9, match=b"starting_after") for n in range(12)))
    async with road.sdk() as client:
        got = await Collector(
            await client.responses.create(model="scripted", input=prompt, background=True, stream=True)
        ).over()
        events, resumes = got.events, 0
        name = events[0].response.id
        while got.error is not None:
            assert isinstance(got.error, openai.APIConnectionError)
            resumes += 1
            last = events[-1].sequence_number
            got = await Collector(await client.responses.retrieve(name, stream=True, starting_after=last)).over()
            events += got.events
    assert resumes == 13
    used = [c.upstream for c in road.proxy.connections if any("/v1/responses" in line for line in c.requests)]
    assert all(one != other for one, other in zip(used[-14:], used[-13:], strict=False))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert text_of(events) == events[-1].response.output_text == full_text(say(prompt))
    async with road.direct(0) as client:
        whole = [event async for event in await client.responses.retrieve(name, stream=True)]
    assert whole == events
    assert len(await road.calls("flagship")) == 1


async def test_the_helper_resumes_by_a_full_replay(road: ClientRoad) -> None:
    prompt = "Canals [[tokens=40 rate=200]]"
    async with road.direct(0) as first, road.direct(1) as second:
        stream = await first.responses.create(model="scripted", input=prompt, background=True, stream=True)
        head = []
        async for event in stream:
            head.append(event)
            if len(head) == 12:
                break
        await stream.close()
        name, last = head[0].response.id, head[-1].sequence_number
        async with second.responses.stream(response_id=name, starting_after=last) as helper:
            tail = [event async for event in helper]
            final = await helper.get_final_response()
    assert tail[0].sequence_number == last + 1
    assert text_of(head + tail) == final.output_text == full_text(say(prompt))


async def test_a_cancel_ends_the_streams_and_the_call(road: ClientRoad) -> None:
    prompt = "Tides [[tokens=4000 rate=100 key=cancel]]"
    async with road.direct(0) as first, road.direct(1) as second:
        stream = await first.responses.create(model="scripted", input=prompt, background=True, stream=True)
        live = Collector(stream)
        await live.until(20)
        cancelled = await second.responses.cancel(live.events[0].response.id)
        events = (await live.over()).events
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.status == cancelled.status == "cancelled"
    assert events[-1].response.output_text == cancelled.output_text == text_of(events)
    assert full_text(say(prompt), {"tokens": 4000}).startswith(cancelled.output_text)

    async def closed() -> bool:
        return [call["outcome"] for call in await road.calls("cancel")] == ["client_gone"]

    await wait_until(closed)


async def test_a_chain_over_two_gateways(road: ClientRoad) -> None:
    async with road.direct(0) as first, road.direct(1) as second:
        one = await first.responses.create(model="scripted", input="Piers [[tokens=9 rate=0]]")
        two = await second.responses.create(
            model="scripted", input="And? [[tokens=7 rate=0]]", previous_response_id=one.id
        )
        items = await first.responses.input_items.list(two.id, order="asc")
        told = [*say("Piers [[tokens=9 rate=0]]"), {"role": "assistant", "content": one.output_text}]
        assert two.output_text == full_text([*told, *say("And? [[tokens=7 rate=0]]")])
        assert len(items.data) == 3
        await second.responses.delete(one.id)
        with pytest.raises(openai.BadRequestError) as caught:
            await first.responses.create(model="scripted", input="x", previous_response_id=one.id)
        assert caught.value.code == "previous_response_not_found"
        assert (await first.responses.retrieve(two.id)).status == "completed"


async def test_a_slow_network_delays_and_changes_nothing(road: ClientRoad) -> None:
    prompt = "Tides [[tokens=60 rate=0]]"
    road.proxy.plan(Fault(match=b"POST /v1/responses", delay_s=0.2, bytes_per_s=40_000))
    async with road.sdk() as client:
        stream = await client.responses.create(model="scripted", input=prompt, stream=True)
        assert text_of([event async for event in stream]) == full_text(say(prompt))


async def test_the_synchronous_client_reads_the_same(road: ClientRoad) -> None:
    prompt = "Fords [[tokens=20 rate=0]]"

    def read() -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{road.gateways[0].url}/v1", api_key="any") as client:
            chunks = list(client.chat.completions.create(model="scripted", messages=say(prompt), stream=True))
            with client.responses.stream(model="scripted", input=prompt) as helper:
                return text_of(chunks), helper.get_final_response().output_text

    assert await asyncio.to_thread(read) == (full_text(say(prompt)), full_text(say(prompt)))
