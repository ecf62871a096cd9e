"""An end that somebody got: who was cut off behind a proxy is still made whole, and nothing is done twice for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from shared import events as ev
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.gateway import LiveGateway
from tests.support.ui_chat import CLOSED, TEXT, UiChat, kinds
from tests.support.wait import wait_until

CALLS: list[ev.Event] = [
    ev.Start("m"), ev.StartStep(), ev.ToolInputStart("c1", "weather"), ev.ToolInputAvailable("c1", "weather", {}),
    ev.FinishStep(), ev.Finish("tool-calls"),
]  # fmt: skip


@asynccontextmanager
async def open_chat(gateway: LiveGateway, log: Log, link: Link) -> AsyncIterator[UiChat]:
    async with gateway.client() as client:
        chat = UiChat(client, log, link)
        yield chat
        await chat.close()


@pytest.fixture
async def chat(gateway: LiveGateway, log: Log, link: Link) -> AsyncIterator[UiChat]:
    async with open_chat(gateway, log, link) as opened:
        yield opened


async def test_who_is_cut_off_behind_a_proxy_that_took_the_end_is_made_whole(
    gateway: LiveGateway, chat: UiChat
) -> None:
    address = httpx.URL(gateway.url)
    fault = Fault(match=b"GET ", cut_after=3, of=b"data: ", how="silence")
    async with FaultProxy([(str(address.host), int(address.port or 0))], fault) as proxy:
        await chat.post()
        async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as behind:
            cut_off = UiChat(behind, chat.log, chat.link)
            reading = asyncio.create_task(cut_off.get())
            await wait_until(lambda: len(gateway.services.hub.viewers) == 2)
            await chat.close()  # whoever asked has left
            await chat.write(*TEXT, *CLOSED)
            await chat.end()
            await wait_until(chat.told, what="the proxy did not take the end")
            assert not reading.done()
            reading.cancel()  # it has heard nothing for too long
            await asyncio.wait([reading])
            _, events = await cut_off.get()
            assert kinds(events)[0] == "start"
            assert kinds(events)[-2:] == ["finish", "[DONE]"]


async def test_after_the_grace_a_got_end_is_given_no_more(make_gateway: MakeGateway, log: Log, link: Link) -> None:
    async with make_gateway(end_grace_s=0.5) as gateway, open_chat(gateway, log, link) as chat:
        await chat.whole()
        await chat.answered()
        await wait_until(chat.told)
        _, events = await chat.get()
        assert kinds(events)[-2:] == ["finish", "[DONE]"]

        async def nothing_left() -> bool:
            return (await chat.get())[0].status_code == 204

        # Each of these was given it, and none of them has made the time longer.
        await wait_until(nothing_left, 3)


async def test_without_a_grace_an_end_is_given_once(make_gateway: MakeGateway, log: Log, link: Link) -> None:
    async with make_gateway(end_grace_s=0) as gateway, open_chat(gateway, log, link) as chat:
        await chat.whole()
        await chat.answered()
        await wait_until(chat.told)
        assert (await chat.get())[0].status_code == 204


async def test_what_an_earlier_release_wrote_down_is_long_ago(chat: UiChat) -> None:
    await chat.whole()
    await chat.answered()
    await wait_until(chat.told)
    await chat.link.call("HSET", log_keys(chat.writer.ref).meta, "told", "1")
    assert (await chat.get())[0].status_code == 204


async def test_calls_that_wait_for_outputs_are_not_given_twice(chat: UiChat) -> None:
    await chat.post()
    await chat.write(*CALLS)
    await chat.end()
    await chat.answered()
    await wait_until(chat.told)
    assert (await chat.get())[0].status_code == 204


async def test_a_failure_is_not_shown_twice(chat: UiChat) -> None:
    await chat.post()
    await chat.write(*TEXT)
    await chat.end("failed")
    await chat.answered()
    await wait_until(chat.told)
    assert (await chat.get())[0].status_code == 204
