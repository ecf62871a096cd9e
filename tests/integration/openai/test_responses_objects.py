"""A response as an object: waited for, read while it is written, stopped, chained, forgotten, somebody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import openai
import pytest

from gateway.access.principal import Principal
from gateway.openai.responses_input import MOST_RESPONSES
from shared import events as ev
from shared.jobs import decode_request
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.integration.openai.conftest import Take
from tests.support.gateway import LiveGateway
from tests.support.openai_kit import ASK, Worker, sdk
from tests.support.wait import wait_until

WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": None}
KEYS = "ann-key=acme/ann,bob-key=acme/bob"


async def start(client: openai.AsyncOpenAI, **more: Any) -> str:
    """Start a background response and return its id."""
    asked: dict[str, Any] = {"model": "scripted", "input": ASK, "background": True, **more}
    return str((await client.responses.create(**asked)).id)


async def in_flight(client: LiveGateway) -> str:
    """Return the id of the one message in flight, once there is one."""

    async def look() -> bool:
        async with client.client() as http:
            found[:] = (await http.get("/active")).json()["messages"]
        return len(found) == 1

    found: list[dict[str, Any]] = []
    await wait_until(look)
    return str(found[0]["message_id"])


async def finished(client: openai.AsyncOpenAI, take: Take, *words: str, **more: Any) -> str:
    """Start a response, answer it with these words, and return its id."""
    name = await start(client, **more)
    worker = await take(name)
    await worker.say(*words)
    await worker.end()
    return name


def texts(items: Any) -> list[str]:
    """Return the text of every item."""
    return [item.content[0].text for item in items]


# -- waited for


async def test_a_foreground_response_waits_for_its_end(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, take: Take
) -> None:
    asking = asyncio.create_task(
        client_of_gateway.responses.create(
            model="scripted", input=ASK, instructions="Be brief.", metadata={"k": "v"}, tools=[WEATHER], temperature=0.5
        )
    )
    worker = await take(await in_flight(gateway))
    await worker.say("Locks ", "lift.")
    assert not asking.done()
    await worker.end()
    response = await asking
    assert response.output_text == "Locks lift."
    assert (response.status, response.background, response.instructions) == ("completed", False, "Be brief.")
    assert (response.metadata, response.temperature, response.tools[0].type) == ({"k": "v"}, 0.5, "function")
    assert response.usage is not None
    assert response.usage.total_tokens == 3
    assert await client_of_gateway.responses.retrieve(response.id) == response


async def test_one_that_fails_is_an_error_that_no_sdk_repeats(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, take: Take
) -> None:
    asking = asyncio.create_task(client_of_gateway.responses.create(model="scripted", input=ASK))
    worker = await take(await in_flight(gateway))
    await worker.say("Locks ")
    await worker.end("failed", ev.Failure("upstream_interrupted", "It broke."))
    with pytest.raises(openai.InternalServerError) as caught:
        await asking
    assert caught.value.code == "upstream_interrupted"
    assert caught.value.response.headers["x-response-id"] == worker.ref.message_id
    assert gateway.services.metrics.starts.labels("created")._value.get() == 1


async def test_a_client_that_says_how_long_it_waits_is_answered_before_it_asks_again(
    make_gateway: MakeGateway, take: Take
) -> None:
    async with make_gateway() as live, sdk(live.url, timeout=2.0) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.create(model="scripted", input=ASK)
        assert (caught.value.status_code, caught.value.code) == (504, "still_running")
        assert live.services.metrics.starts.labels("created")._value.get() == 1
        # It goes on, and can be had by its id.
        worker = await take(caught.value.response.headers["x-response-id"])
        await worker.say("Late.")
        await worker.end()
        assert (await client.responses.retrieve(worker.ref.message_id)).output_text == "Late."


async def test_a_repetition_that_names_its_start_is_the_same_response(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway() as live, sdk(live.url, timeout=2.0) as client:
        asking = asyncio.create_task(
            client.responses.create(model="scripted", input=ASK, extra_headers={"idempotency-key": "click"})
        )
        name = await in_flight(live)
        # The SDK has repeated it after its own patience: both waited for the one answer.
        await wait_until(lambda: live.services.metrics.starts.labels("existed")._value.get() >= 1)
        worker = await Worker(log, name).claim()
        await worker.say("Once.")
        await worker.end()
        response = await asking
        assert (response.id, response.output_text) == (name, "Once.")
        with pytest.raises(openai.ConflictError) as caught:
            await client.responses.create(model="scripted", input="?", extra_headers={"idempotency-key": "click"})
        assert caught.value.code == "idempotency_mismatch"
        assert live.services.metrics.starts.labels("created")._value.get() == 1


async def test_leaving_does_not_stop_it(gateway: LiveGateway, take: Take) -> None:
    async with sdk(gateway.url) as client:
        asking = asyncio.create_task(client.responses.create(model="scripted", input=ASK))
        name = await in_flight(gateway)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await wait_until(lambda: not gateway.services.hub.viewers)
        worker = await take(name)
        await worker.say("Alone.")
        await worker.end()
        assert (await client.responses.retrieve(name)).output_text == "Alone."


async def test_a_drain_ends_the_waiting_and_not_the_response(gateway: LiveGateway) -> None:
    async with sdk(gateway.url) as client:
        asking = asyncio.create_task(client.responses.create(model="scripted", input=ASK))
        name = await in_flight(gateway)
        await wait_until(lambda: len(gateway.services.hub.viewers) == 1)
        gateway.services.hub.drain(0.0)
        with pytest.raises(openai.InternalServerError) as caught:
            await asking
        assert (caught.value.status_code, caught.value.code) == (503, "still_running")
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert (await client.responses.retrieve(name)).status == "queued"


async def test_a_drain_ends_the_waiting_last_also_of_what_begins_in_it(gateway: LiveGateway) -> None:
    hub, window_s = gateway.services.hub, 3.0
    async with sdk(gateway.url, max_retries=0) as client:
        asking = [asyncio.create_task(client.responses.create(model="scripted", input=ASK)) for _ in range(8)]
        await wait_until(lambda: len(hub.viewers) == len(asking))
        end = asyncio.get_running_loop().time() + window_s
        hub.drain(window_s)
        assert min(viewer.break_at for viewer in hub.viewers) >= end
        asking.append(asyncio.create_task(client.responses.create(model="scripted", input=ASK)))
        outcomes = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 15)
        assert asyncio.get_running_loop().time() >= end
        assert {getattr(outcome, "code", outcome) for outcome in outcomes} == {"still_running"}


# -- read and stopped


async def test_it_can_be_read_while_it_is_written(client_of_gateway: openai.AsyncOpenAI, take: Take) -> None:
    name = await start(client_of_gateway)
    assert (await client_of_gateway.responses.retrieve(name)).status == "queued"
    worker = await take(name)
    await worker.say("Locks ", "lift")
    response = await client_of_gateway.responses.retrieve(name)
    assert (response.status, response.output_text, response.usage) == ("in_progress", "Locks lift", None)


async def test_one_that_nobody_has_taken_is_cancelled_at_once_and_only_once(
    client_of_gateway: openai.AsyncOpenAI,
) -> None:
    name = await start(client_of_gateway)
    first = await client_of_gateway.responses.cancel(name)
    assert (first.status, first.output) == ("cancelled", [])
    assert await client_of_gateway.responses.cancel(name) == first


async def test_a_cancel_waits_until_the_worker_has_confirmed(
    client_of_gateway: openai.AsyncOpenAI, take: Take, log: Log
) -> None:
    worker = await take(await start(client_of_gateway))
    await worker.say("Locks ")
    cancelling = asyncio.create_task(client_of_gateway.responses.cancel(worker.ref.message_id))

    async def told() -> bool:
        meta = await log.meta(worker.ref)
        return meta is not None and meta.stop is not None

    await wait_until(told)
    assert not cancelling.done()
    await worker.end("aborted")
    response = await cancelling
    assert (response.status, response.output_text) == ("cancelled", "Locks ")


async def test_a_cancel_of_one_that_is_over_changes_nothing(client_of_gateway: openai.AsyncOpenAI, take: Take) -> None:
    name = await finished(client_of_gateway, take, "Done.")
    response = await client_of_gateway.responses.cancel(name)
    assert (response.status, response.output_text) == ("completed", "Done.")


# -- chained


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
    await worker.write(ev.Start("m"), ev.StartStep(), ev.ToolInputAvailable("call_1", "weather", {"city": "Ribe"}))
    await worker.end()
    response = await client_of_gateway.responses.retrieve(worker.ref.message_id)
    [call] = response.output
    assert call.type == "function_call"
    outputs: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sun"}]
    by_chain = await take(await start(client_of_gateway, input=outputs, previous_response_id=response.id))
    by_hand = await take(
        await start(client_of_gateway, input=[{"role": "user", "content": ASK}, call.to_dict(), *outputs])
    )
    by_name = await take(
        await start(
            client_of_gateway,
            input=[{"role": "user", "content": ASK}, {"type": "item_reference", "id": call.id}, *outputs],
        )
    )
    chats = [decode_request(await log.request(each.ref) or b"").messages for each in (by_chain, by_hand, by_name)]
    assert chats[0] == chats[1] == chats[2]
    assert chats[0][1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Ribe"}'}
    assert chats[0][2] == {"role": "tool", "tool_call_id": "call_1", "content": "sun"}


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


async def test_input_items_are_paged(client_of_gateway: openai.AsyncOpenAI) -> None:
    given: Any = [{"role": "user", "content": str(number)} for number in range(5)]
    name = await start(client_of_gateway, input=given)
    newest = await client_of_gateway.responses.input_items.list(name, limit=2)
    assert (texts(newest.data), newest.has_more) == (["4", "3"], True)
    rest = await client_of_gateway.responses.input_items.list(name, limit=3, after=str(newest.data[-1].id))
    assert (texts(rest.data), rest.has_more) == (["2", "1", "0"], False)
    for query in ({"limit": 0}, {"limit": 101}, {"order": "up"}, {"after": "nothing"}):
        with pytest.raises(openai.BadRequestError):
            await client_of_gateway.responses.input_items.list(name, extra_query=query)


# -- not stored, not yours


async def test_a_response_that_is_not_stored_is_forgotten_once_it_was_delivered(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, take: Take, log: Log
) -> None:
    gateway.services.forgetter.grace_s = 0.0
    for streamed in (False, True):
        asking = asyncio.create_task(
            client_of_gateway.responses.create(model="scripted", input=ASK, store=False, stream=streamed)
        )
        worker = await take(await in_flight(gateway))
        await worker.say("Once.")
        await worker.end()
        answer: Any = await asking
        text = answer.output_text if not streamed else [event async for event in answer][-1].response.output_text
        assert text == "Once."

        async def forgotten(worker: Worker = worker) -> bool:
            meta = await log.meta(worker.ref)
            return meta is not None and meta.state == "deleted"

        await wait_until(forgotten)
        with pytest.raises(openai.NotFoundError):
            await client_of_gateway.responses.retrieve(worker.ref.message_id)
        with pytest.raises(openai.BadRequestError) as unknown:
            await start(client_of_gateway, previous_response_id=worker.ref.message_id)
        assert (unknown.value.code, unknown.value.param) == ("previous_response_not_found", "previous_response_id")

        async def told(worker: Worker = worker) -> bool:
            lines = await gateway.services.feed.read(worker.ref.tenant, None) or []
            events = [msgspec.json.decode(line) for _, line in lines]
            return any(each["type"] == "deleted" and each["message_id"] == worker.ref.message_id for each in events)

        await wait_until(told)


@pytest.mark.parametrize("streamed", [False, True])
async def test_one_that_is_not_stored_can_still_be_had_by_its_key_if_it_was_lost_on_its_way(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, take: Take, log: Log, streamed: bool
) -> None:
    async def ask() -> Any:
        headers = {"idempotency-key": f"click-{streamed}"}
        return await client_of_gateway.responses.create(
            model="scripted", input=ASK, store=False, stream=streamed, extra_headers=headers
        )

    async def text(answer: Any) -> str:
        found = [event async for event in answer][-1].response if streamed else answer
        return str(found.output_text)

    asking = asyncio.create_task(ask())
    worker = await take(await in_flight(gateway))
    await worker.say("Once.")
    await worker.end()
    assert await text(await asking) == "Once."
    assert await text(await ask()) == "Once."
    with pytest.raises(openai.NotFoundError):
        await client_of_gateway.responses.retrieve(worker.ref.message_id)
    # What still waits is forgotten when the gateway goes.
    await gateway.services.forgetter.close()
    meta = await log.meta(worker.ref)
    assert meta is not None
    assert meta.state == "deleted"


async def test_somebody_elses_response_is_like_one_that_does_not_exist(make_gateway: MakeGateway, log: Log) -> None:
    async with (
        make_gateway(api_keys=KEYS) as live,
        sdk(live.url, api_key="ann-key") as ann,
        sdk(live.url, api_key="bob-key") as bob,
    ):
        worker = await Worker(log, await start(ann), Principal("acme", "ann")).claim()
        await worker.say("Secret.")
        await worker.end()
        mine = worker.ref.message_id
        assert (await ann.responses.retrieve(mine)).output_text == "Secret."
        answers = []
        for name in (mine, mine[:-1] + "x"):
            asks = (
                bob.responses.retrieve(name), bob.responses.retrieve(name, stream=True), bob.responses.cancel(name),
                bob.responses.delete(name), bob.responses.input_items.list(name), start(bob, previous_response_id=name),
                start(bob, input=[{"type": "item_reference", "id": f"msg_{name.removeprefix('resp_')}_0"}]),
            )  # fmt: skip
            said = []
            for ask in asks:
                with pytest.raises((openai.NotFoundError, openai.BadRequestError)) as caught:
                    await ask
                body = str(caught.value.body).replace(name, "NAME").replace(name.removeprefix("resp_"), "NAME")
                said.append((caught.value.status_code, body))
            answers.append(said)
        assert answers[0] == answers[1]
        assert [status for status, _ in answers[0]] == [404] * 5 + [400, 404]
        assert (await ann.responses.retrieve(mine)).status == "completed"


async def test_a_chat_completion_is_no_response(client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway) -> None:
    async with gateway.client() as http:
        body = {"messages": [{"role": "user", "content": ASK}], "stream": True}
        async with http.stream("POST", "/v1/chat/completions", json=body) as reply:
            name = reply.headers["x-response-id"]
    with pytest.raises(openai.NotFoundError):
        await client_of_gateway.responses.retrieve(name)


async def test_what_the_model_cannot_be_told_is_refused_before_anything_is_started(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client_of_gateway.responses.create(model="scripted", input=ASK, truncation="auto")
    assert caught.value.param == "truncation"
    async with gateway.client() as http:
        assert (await http.get("/active")).json()["messages"] == []
