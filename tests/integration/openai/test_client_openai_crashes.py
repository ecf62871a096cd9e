"""What users of the `openai` package see when a worker or a gateway dies: the same message, or that it failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio

from deploy.scripted_model.text import full_text
from tests.integration.openai.road import ClientRoad
from tests.support.openai_kit import Collector, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Pair:
    """A response and a completion under way, each with something to show; `case` tells their prompts from others'."""

    road: ClientRoad
    case: str
    model: str
    response: Collector
    completion: Collector

    def prompt(self, wire: str) -> Any:
        return prompt_of(f"{self.case}-{wire}")

    def whole(self, wire: str) -> str:
        return full_text(prompt_of(f"{self.case}-{wire}"))

    async def calls(self) -> list[int]:
        """Return how many calls of each the model got."""
        return [len(await self.road.calls(f"{self.case}-{wire}")) for wire in ("r", "c")]

    async def repeat(self, client: openai.AsyncOpenAI) -> Any:
        """Ask for the completion once more, by its key."""
        return await ask(client, self.model, self.case)


def prompt_of(key: str) -> Any:
    return [{"role": "user", "content": f"Locks [[tokens=120 rate=60 reasoning=0 key={key}]]"}]


async def ask(client: openai.AsyncOpenAI, model: str, case: str) -> Any:
    return await client.chat.completions.create(
        model=model, messages=prompt_of(f"{case}-c"), stream=True, extra_headers={"idempotency-key": case}
    )


async def begin(road: ClientRoad, client: openai.AsyncOpenAI, model: str, case: str) -> Pair:
    response = Collector(
        await client.responses.create(model=model, input=prompt_of(f"{case}-r"), background=True, stream=True)
    )
    completion = Collector(await ask(client, model, case))
    await response.until(20)
    await completion.until(20)
    return Pair(road, case, model, response, completion)


@pytest_asyncio.fixture(loop_scope="module")
async def client(road: ClientRoad) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client of gateway A."""
    async with road.direct(0) as made:
        yield made


def check_whole(pair: Pair) -> None:
    """Check that neither client noticed anything."""
    assert (pair.response.error, pair.completion.error) == (None, None)
    assert pair.response.text == pair.response.events[-1].response.output_text == pair.whole("r")
    assert pair.completion.text == pair.whole("c")
    assert [event.sequence_number for event in pair.response.events] == list(range(len(pair.response.events)))


async def test_a_killed_worker_is_not_noticed_where_the_model_can_go_on(
    road: ClientRoad, client: openai.AsyncOpenAI
) -> None:
    pair = await begin(road, client, "scripted", "goes-on")
    await road.worker.kill()
    await road.next_worker()
    await pair.response.over(25)
    await pair.completion.over(25)
    check_whole(pair)
    assert await pair.calls() == [2, 2]


async def test_where_the_answer_must_begin_anew_live_clients_are_told_and_later_ones_get_it(
    road: ClientRoad, client: openai.AsyncOpenAI
) -> None:
    pair = await begin(road, client, "no-prefill", "anew")
    await road.worker.kill()
    await road.next_worker()
    await pair.response.over(25)
    assert pair.response.events[-1].type == "response.failed"
    assert pair.response.events[-1].response.error.code == "answer_restarted"
    await pair.completion.over(25)
    assert isinstance(pair.completion.error, openai.APIError)
    assert pair.completion.error.code == "answer_restarted"
    name = pair.response.events[0].response.id
    async with road.direct(1) as other:
        late = [event async for event in await other.responses.retrieve(name, stream=True)]
        assert late[-1].type == "response.completed"
        assert text_of(late) == late[-1].response.output_text == pair.whole("r")
        async with other.responses.stream(response_id=name) as helper:
            assert (await helper.get_final_response()).output_text == pair.whole("r")
        assert (await other.responses.retrieve(name)).output_text == pair.whole("r")
        assert text_of([chunk async for chunk in await pair.repeat(other)]) == pair.whole("c")
    assert await pair.calls() == [2, 2]


async def test_a_killed_gateway_breaks_its_streams_and_another_goes_on(road: ClientRoad) -> None:
    third = await road.third_gateway()
    async with openai.AsyncOpenAI(base_url=f"{third.url}/v1", api_key="any") as client:
        pair = await begin(road, client, "scripted", "gateway")
        await third.kill()
        for live in (await pair.response.over(), await pair.completion.over()):
            assert isinstance(live.error, openai.APIConnectionError)
    name, last = pair.response.events[0].response.id, pair.response.events[-1].sequence_number
    async with road.direct(1) as other:
        tail = [event async for event in await other.responses.retrieve(name, stream=True, starting_after=last)]
        chunks = [chunk async for chunk in await pair.repeat(other)]
    events = pair.response.events + tail
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert text_of(events) == tail[-1].response.output_text == pair.whole("r")
    assert text_of(chunks) == pair.whole("c")
    assert await pair.calls() == [1, 1]


async def test_a_gateway_that_leaves_in_order_breaks_its_streams_too(road: ClientRoad) -> None:
    """A clean end would be taken for the end of the answer."""
    third = await road.third_gateway()
    async with openai.AsyncOpenAI(base_url=f"{third.url}/v1", api_key="any") as client:
        stream = await client.responses.create(
            model="scripted", input="Locks [[tokens=9000 rate=50]]", background=True, stream=True
        )
        live = Collector(stream)
        await live.until(10)
        stopping = asyncio.create_task(third.stop())
        assert isinstance((await live.over(25)).error, openai.APIConnectionError)
        assert await stopping == 0
    async with road.direct(0) as other:
        name, last = live.events[0].response.id, live.events[-1].sequence_number
        again = Collector(await other.responses.retrieve(name, stream=True, starting_after=last))
        await again.until(10)
        assert (await other.responses.cancel(name)).status == "cancelled"
        await again.over()
    events = live.events + again.events
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert text_of(events) == events[-1].response.output_text


async def test_a_worker_that_leaves_in_order_is_not_noticed(road: ClientRoad, client: openai.AsyncOpenAI) -> None:
    pair = await begin(road, client, "scripted", "in-order")
    before = await road.next_worker()
    assert await before.stop() == 0
    await pair.response.over(25)
    await pair.completion.over(25)
    check_whole(pair)
