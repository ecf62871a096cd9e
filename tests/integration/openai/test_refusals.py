"""A model that will not answer: the SDK's `.parse()` says so, in place of failing to read its words as the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
from pydantic import BaseModel

from shared import events as ev
from tests.integration.openai.conftest import Take
from tests.integration.openai.test_responses_objects import in_flight
from tests.support.gateway import LiveGateway
from tests.support.openai_kit import ASK, MESSAGES

WORDS = "I will not."


class Lock(BaseModel):
    """What was asked for."""

    depth: int


async def refuse(gateway: LiveGateway, take: Take) -> None:
    """Answer the one message in flight with a refusal."""
    worker = await take(await in_flight(gateway))
    await worker.write(ev.Start(worker.ref.message_id), ev.StartStep(), ev.TextStart("t0", refusal=True))
    await worker.write(ev.TextDelta("t0", WORDS))
    await worker.end()


async def test_a_parsed_response_has_the_refusal(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, take: Take
) -> None:
    asking = asyncio.create_task(
        client_of_gateway.responses.parse(model="scripted", input=ASK, text_format=Lock)
    )  # fmt: skip
    await refuse(gateway, take)
    response: Any = await asking
    [part] = response.output[0].content
    assert (part.type, part.refusal, response.output_parsed) == ("refusal", WORDS, None)


async def test_a_parsed_completion_has_the_refusal(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, take: Take
) -> None:
    asking = asyncio.create_task(
        client_of_gateway.chat.completions.parse(model="scripted", messages=MESSAGES, response_format=Lock)
    )
    await refuse(gateway, take)
    message = (await asking).choices[0].message
    assert (message.refusal, message.content, message.parsed) == (WORDS, None, None)


async def test_both_streams_tell_it_as_it_comes(
    client_of_gateway: openai.AsyncOpenAI, gateway: LiveGateway, take: Take
) -> None:
    async with client_of_gateway.chat.completions.stream(
        model="scripted", messages=MESSAGES, response_format=Lock
    ) as chat:
        await refuse(gateway, take)
        completion = await chat.get_final_completion()
    assert completion.choices[0].message.refusal == WORDS
    async with client_of_gateway.responses.stream(model="scripted", input=ASK, text_format=Lock) as stream:
        await refuse(gateway, take)
        response: Any = await stream.get_final_response()
    assert response.output[0].content[0].refusal == WORDS
