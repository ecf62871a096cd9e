"""A cursor into an answer that is not there: waited for while it may come back, then an error, never "nothing left"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from shared.ids import quote
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.log import lose_everything
from tests.support.ui_chat import CLOSED, TEXT, UiChat

LEASE_MS = 2000


@pytest.fixture
async def chat(make_gateway: MakeGateway, log: Log, link: Link) -> AsyncIterator[UiChat]:
    async with make_gateway(lease_ms=LEASE_MS) as gateway, gateway.client() as client:
        chat = UiChat(client, log, link)
        await chat.post()
        await chat.write(*TEXT)
        yield chat
        await chat.close()


def urls(chat: UiChat) -> Sequence[str]:
    """Return what is asked by whoever has the first three chunks: `start`, `start-step`, `text-start`."""
    ref = chat.writer.ref
    cursor = f"{quote(ref.message_id)}:2:{chat.writer.own.epoch}"
    return (
        f"{chat.url}/stream?after={cursor}",
        f"/api/chat/run.0.{chat.chat_id}.{ref.message_id}/stream?startIndex=3",
        f"{chat.url}/stream?startIndex=3",
    )


async def answers(chat: UiChat) -> list[httpx.Response]:
    return await asyncio.gather(*map(chat.client.get, urls(chat)))


def failures(responses: Sequence[httpx.Response]) -> set[tuple[int, str]]:
    return {(response.status_code, response.text and response.json()["error"]["code"]) for response in responses}


async def test_an_answer_whose_replay_period_is_over_is_gone(chat: UiChat, link: Link) -> None:
    await chat.write(*CLOSED)
    await chat.end()
    await link.call("DEL", log_keys(chat.writer.ref).stream)
    assert failures(await answers(chat)) == {(410, "gone")}
    assert (await chat.get())[0].status_code == 204


async def test_a_deleted_answer_is_gone(chat: UiChat) -> None:
    ref = chat.writer.ref
    assert (await chat.client.delete(f"/chats/{ref.chat_id}/messages/{ref.message_id}")).status_code == 204
    assert failures(await answers(chat)) == {(410, "gone")}
    assert (await chat.get())[0].status_code == 204


async def test_an_answer_that_redis_lost_is_waited_for(chat: UiChat, link: Link) -> None:
    entries = await chat.log.read_all(chat.writer.ref)
    await lose_everything(link)
    asking = asyncio.create_task(answers(chat))
    # Nothing answers before the owner has restored it: the shield keeps them asking.
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asking), 0.5)
    await chat.writer.restore(entries)
    await chat.write(*CLOSED)
    await chat.end()
    for response in await asking:
        assert response.status_code == 200
        assert response.text.count('{"type":"text-delta"') == 3
        assert response.text.endswith("data: [DONE]\n\n")


async def test_an_answer_that_does_not_come_back_is_not_found(chat: UiChat, link: Link) -> None:
    await lose_everything(link)
    assert failures(await answers(chat)) == {(404, "not_found")}
