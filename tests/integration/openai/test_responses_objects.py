"""A response as an object: waited for, read while it is written, stopped, chained, forgotten, somebody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import openai
import pytest

from gateway.access.principal import Principal
from shared import events as ev
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
