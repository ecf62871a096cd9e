"""A response's stream from any event on: replayed, cut, resumed, begun anew, over, deleted."""

from __future__ import annotations

import asyncio

import openai
import pytest

from shared import events as ev
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.integration.openai.conftest import Take
from tests.support.gateway import LiveGateway, sse_data
from tests.support.log import lose_everything
from tests.support.openai_kit import ASK, Collector, kinds, sdk, text_of
from tests.support.wait import wait_until

OPENING = ["created", "queued", "in_progress", "output_item.added", "content_part.added"]


@pytest.fixture
async def name(client_of_gateway: openai.AsyncOpenAI) -> str:
    """A background response that waits for its worker."""
    response = await client_of_gateway.responses.create(model="scripted", input=ASK, background=True)
    assert response.status == "queued"
    return response.id


async def test_cut_after_every_event_and_resumed_on_the_other_gateway(
    make_gateway: MakeGateway, client_of_gateway: openai.AsyncOpenAI, name: str, take: Take
) -> None:
    worker = await take(name)
    await worker.say("Locks ", "lift ", "boats.")
    await worker.end()
    whole = [event async for event in await client_of_gateway.responses.retrieve(name, stream=True)]
    assert [event.sequence_number for event in whole] == list(range(len(whole)))
    async with make_gateway() as other, sdk(other.url) as client:
        for cut in range(len(whole)):
            stream = await client.responses.retrieve(name, stream=True, starting_after=cut)
            assert [event async for event in stream] == whole[cut + 1 :]
        for beyond in (len(whole), 10**9):
            # It is from a log that a failover has put this one in the place of: an empty stream would mean the end.
            with pytest.raises(openai.BadRequestError):
                await client.responses.retrieve(name, stream=True, starting_after=beyond)


async def test_resumed_while_it_is_written(client_of_gateway: openai.AsyncOpenAI, name: str, take: Take) -> None:
    worker = await take(name)
    await worker.say("Locks ")
    first = Collector(await client_of_gateway.responses.retrieve(name, stream=True))
    await first.until(len(OPENING) + 1)
    await first.leave()
    rest = Collector(await client_of_gateway.responses.retrieve(name, stream=True, starting_after=len(OPENING)))
    await worker.write(ev.TextDelta("t0", "lift."))
    await worker.end()
    await rest.over()
    assert text_of(first.events + rest.events) == "Locks lift."
    assert kinds(rest.events)[-1] == "completed"


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "", "0x1", "9" * 40, "\u0661"])
async def test_a_number_that_is_none_is_refused(gateway: LiveGateway, name: str, number: str) -> None:
    async with gateway.client() as client:
        query = {"stream": "true", "starting_after": number}
        reply = await client.get(f"/v1/responses/{name}", params=query)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "starting_after"


async def test_a_number_that_a_running_response_has_not_reached_is_refused(
    client_of_gateway: openai.AsyncOpenAI, name: str
) -> None:
    with pytest.raises(openai.BadRequestError):
        await client_of_gateway.responses.retrieve(name, stream=True, starting_after=50)


async def test_the_stream_has_no_ids_no_keepalive_events_and_says_where_it_is(make_gateway: MakeGateway) -> None:
    async with make_gateway(heartbeat_s=0.05) as live, live.client() as client:
        body = {"model": "scripted", "input": ASK, "background": True, "stream": True}
        async with client.stream("POST", "/v1/responses", json=body) as reply:
            name = reply.headers["x-response-id"]
            assert reply.headers["x-tailrace-stream"] == f"/chats/{name}/messages/{name}/stream"
            assert "no-transform" in reply.headers["cache-control"]
            lines = []
            async for line in reply.aiter_lines():
                lines.append(line)
                if lines.count(": ping") >= 2:
                    break
    assert not [line for line in lines if line.startswith(("id:", "retry:"))]
    # A comment must not end a block: some SDKs take the blank line for an empty event.
    at = lines.index(": ping")
    assert lines[at + 1] == ": ping"
    assert [event["type"] for event in sse_data("\n".join(lines))] == ["response.created", "response.queued"]


# -- begun anew


async def test_who_has_void_text_is_told_at_once_and_who_comes_later_gets_the_fresh_attempt(
    client_of_gateway: openai.AsyncOpenAI, name: str, take: Take
) -> None:
    worker = await take(name)
    await worker.say("Void ", "text.")
    live = Collector(await client_of_gateway.responses.retrieve(name, stream=True))
    await live.until(len(OPENING) + 2)
    await worker.begin_anew()
    await live.over()
    assert kinds(live.events)[-1] == "failed"
    assert live.error is None
    assert live.events[-1].response.error.code == "answer_restarted"
    # The fresh attempt is still being written.
    await worker.say("Fresh ")
    late = Collector(await client_of_gateway.responses.retrieve(name, stream=True))
    await late.until(5)
    again = Collector(await client_of_gateway.responses.retrieve(name, stream=True, starting_after=3))
    assert kinds((await again.over()).events)[-1] == "failed"
    assert (await client_of_gateway.responses.retrieve(name)).output_text == "Fresh "
    await worker.write(ev.TextDelta("t0", "text."))
    await worker.end()
    await late.over()
    assert late.text == "Fresh text."
    assert late.events[-1].response.output_text == "Fresh text."
    assert late.events[0].type == "response.created"
    assert late.events[0].sequence_number == live.events[-1].sequence_number + 1
    async with client_of_gateway.responses.stream(response_id=name) as stream:
        assert (await stream.get_final_response()).output_text == "Fresh text."


async def test_a_late_stream_is_resumed_by_its_own_numbers(
    client_of_gateway: openai.AsyncOpenAI, name: str, take: Take
) -> None:
    worker = await take(name)
    await worker.say("Void ")
    await worker.begin_anew()
    await worker.say("Fresh ", "text.")
    await worker.end()
    whole = [event async for event in await client_of_gateway.responses.retrieve(name, stream=True)]
    for cut, event in enumerate(whole):
        stream = await client_of_gateway.responses.retrieve(name, stream=True, starting_after=event.sequence_number)
        assert [event async for event in stream] == whole[cut + 1 :]


async def test_what_was_void_before_redis_lost_it_is_void_once_its_owner_has_restored_it(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, link: Link, name: str, take: Take
) -> None:
    """The record then knows no more that the message was handed over."""
    log, worker = gateway.services.log, await take(name)
    await worker.say("Void ")
    await worker.begin_anew()
    await worker.say("Fresh.")
    backup, entries = await log.backup(worker.ref), await log.read_all(worker.ref)
    assert backup is not None
    await lose_everything(link)
    await worker.restore(backup, entries)
    late = Collector(await client_of_gateway.responses.retrieve(name, stream=True))
    await worker.end()
    assert (await late.over()).text == "Fresh."


async def test_an_attempt_that_said_nothing_is_never_heard_of(
    client_of_gateway: openai.AsyncOpenAI, name: str, take: Take
) -> None:
    worker = await take(name)
    live = Collector(await client_of_gateway.responses.retrieve(name, stream=True))
    await live.until(3)
    await worker.begin_anew()
    await worker.say("Text.")
    await worker.end()
    assert (await live.over()).text == "Text."
    assert kinds(live.events)[-1] == "completed"


async def test_a_slow_reader_of_a_restarted_response_is_told_too(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, name: str, take: Take
) -> None:
    """The one whose part of the log is read back, not heard live."""
    worker = await take(name)
    await worker.say("Void ")
    async with gateway.client() as client, client.stream("GET", f"/v1/responses/{name}?stream=true") as reply:
        await wait_until(lambda: len(gateway.services.hub.viewers) == 1)
        lines = reply.aiter_lines()
        assert await anext(lines) == "event: response.created"
        for number in range(40):
            await worker.write(ev.TextDelta("t0", f"{number} " * 4000))
        await worker.begin_anew()
        await worker.say("Fresh.")
        await worker.end()
        text = "\n".join([line async for line in lines])
    events = sse_data(text)
    assert events[-1]["type"] == "response.failed"
    assert "Fresh." not in text


# -- gone


async def test_a_deleted_response_breaks_its_streams_and_is_not_found(
    client_of_gateway: openai.AsyncOpenAI, name: str, take: Take
) -> None:
    worker = await take(name)
    await worker.say("Text.")
    live = Collector(await client_of_gateway.responses.retrieve(name, stream=True))
    await live.until(3)
    await client_of_gateway.responses.delete(name)
    await live.over()
    assert isinstance(live.error, openai.APIConnectionError)
    for ask in (
        client_of_gateway.responses.retrieve(name),
        client_of_gateway.responses.cancel(name),
        client_of_gateway.responses.delete(name),
        client_of_gateway.responses.input_items.list(name),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            await ask
        assert caught.value.body == {
            "message": f"Response with id '{name}' not found.", "type": "invalid_request_error",
            "param": None, "code": None,
        }  # fmt: skip


async def test_after_the_replay_period_the_response_can_be_read_and_not_streamed(
    client_of_gateway: openai.AsyncOpenAI, name: str, take: Take, link: Link
) -> None:
    worker = await take(name)
    await worker.say("Text.")
    await worker.end()
    before = await client_of_gateway.responses.retrieve(name)
    await link.call("DEL", log_keys(worker.ref).stream)
    assert await client_of_gateway.responses.retrieve(name) == before
    with pytest.raises(openai.APIStatusError) as caught:
        await client_of_gateway.responses.retrieve(name, stream=True)
    assert caught.value.status_code == 410


async def test_a_full_gateway_turns_streams_away_before_anything_is_started(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_viewers=1) as live, live.client() as client:
        body = {"input": ASK, "stream": True}
        async with client.stream("POST", "/v1/responses", json=body) as first:
            assert first.status_code == 200
            await wait_until(lambda: len(live.services.hub.viewers) == 1)
            second = await client.post("/v1/responses", json=body)
            assert (second.status_code, second.json()["error"]["code"]) == (503, "overloaded")
            assert "x-should-retry" not in second.headers
            name = first.headers["x-response-id"]
            assert [view["message_id"] for view in (await client.get("/active")).json()["messages"]] == [name]


async def test_a_part_of_a_response_that_redis_lost_is_waited_for(
    make_gateway: MakeGateway, log: Log, link: Link, take: Take
) -> None:
    async with make_gateway(lease_ms=2000) as gateway, sdk(gateway.url, max_retries=0) as client:
        name = (await client.responses.create(model="scripted", input=ASK, background=True)).id
        worker = await take(name)
        await worker.say("Locks ", "lift.")
        backup, entries = await log.backup(worker.ref), await log.read_all(worker.ref)
        assert backup is not None
        await lose_everything(link)
        asking = asyncio.create_task(client.responses.retrieve(name, stream=True, starting_after=len(OPENING)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asking), 0.5)
        await worker.restore(backup, entries)
        rest = Collector(await asking)
        await worker.end()
        await rest.over()
        assert text_of(rest.events) == "lift."
        assert kinds(rest.events)[-1] == "completed"


async def test_one_that_does_not_come_back_is_not_found(make_gateway: MakeGateway) -> None:
    async with make_gateway(lease_ms=2000) as gateway, sdk(gateway.url, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_none", stream=True, starting_after=1)
