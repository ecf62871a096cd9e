"""An answer on the page survives whatever breaks under it: same text everywhere, the model's own, nothing twice."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from playwright.async_api import BrowserContext

from tests.browser.conftest import Launch
from tests.browser.demo import Demo, oracle, prompt

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


async def cut_all(gateway: str) -> None:
    """Cut every connection to a gateway, from outside of the page."""
    async with httpx.AsyncClient(base_url=gateway) as client:
        assert (await client.post("/__local/cut", headers={"x-tailrace-local": "1"})).status_code == 200


async def test_a_reload_in_mid_answer_goes_on_where_it_was(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    asked = prompt("rivers")
    await demo.ask(asked)
    await demo.wait_text(120)
    with launch.silent_model():
        await demo.snap("mid-answer")
        await demo.page.reload()
        assert 120 <= len(await demo.wait_text(120)) < len(oracle(asked))
        await demo.snap("after-reload")
    assert await demo.wait_over() == oracle(asked)
    assert await demo.page.inner_text("#title") == "Tell me about rivers"
    assert demo.complaints == []


async def test_a_second_tab_on_the_other_gateway_keeps_step(launch: Launch, context: BrowserContext) -> None:
    one = await Demo.open(context, launch.first)
    asked = prompt("harbours")
    await one.ask(asked)
    await one.wait_text(60)
    with launch.silent_model():
        two = await Demo.open(context, await one.other_gateway())
        assert two.page.url.startswith(launch.second)
        await two.wait_text(60)
        await two.wait_trace(f":{launch.second.rpartition(':')[2]}")
    texts = await asyncio.gather(one.wait_over(), two.wait_over())
    assert set(texts) == {oracle(asked)}
    # and what is asked in one tab appears in the other by itself
    again = prompt("lighthouses", tokens=60)
    await two.ask(again)
    await one.wait("() => document.querySelectorAll('.turn').length === 4")
    assert await two.wait_over() == await one.wait_over() != oracle(asked)
    assert one.complaints == two.complaints == []


async def test_the_gateway_is_killed_under_the_page(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    asked = prompt("mills")
    await demo.ask(asked)
    await demo.wait_text(80)
    before, since = launch.pid("gateway-1"), len(launch.program.lines)
    with launch.silent_model():
        await demo.break_it("kill-gateway")
        await demo.wait_state("Reconnecting")
        await demo.snap("reconnecting")
        await demo.wait_trace("resumed 1")
    assert await demo.wait_over() == oracle(asked)
    await launch.program.wait_line("gateway-1 is back", within_s=30, after=since)
    assert launch.pid("gateway-1") != before
    await demo.page.reload()
    assert await demo.wait_over() == oracle(asked)


async def test_the_worker_is_killed_and_another_takes_over(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    asked = prompt("bread")
    await demo.ask(asked)
    await demo.wait_text(80)
    since = len(launch.program.lines)
    with launch.silent_model():
        await demo.break_it("kill-worker")
        await demo.wait_state("Another worker took over")
        await demo.snap("took-over")
    assert await demo.wait_over() == oracle(asked)
    notes = await demo.notes()
    assert "another worker took over" in notes
    assert "at least" in notes  # what the killed attempt cost was never reported
    await launch.program.wait_line("worker is back", within_s=30, after=since)


async def test_what_is_broken_while_nothing_is_written_is_said_too(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    for what, words, child in (
        ("cut", "Connections cut", None),
        ("kill-worker", "Worker killed", "worker"),
        ("kill-gateway", "Gateway killed", "gateway-1"),
    ):
        since = len(launch.program.lines)
        await demo.break_it(what)
        await demo.wait_state(words)
        if child is not None:
            await launch.program.wait_line(f"{child} is back", within_s=30, after=since)
    await demo.wait("() => document.querySelector('#state').textContent === 'Ready'")
    assert "Worker killed" in await demo.page.inner_text("#spoken")


async def test_a_cut_connection_is_mended(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    asked = prompt("weather", tokens=320)  # the model goes on between the cuts
    await demo.ask(asked)
    for times in (1, 2, 3):
        await demo.wait_text(60 * times)
        with launch.silent_model():
            await demo.break_it("cut")
            await demo.wait_trace(f"resumed {times}")
    assert await demo.wait_over() == oracle(asked)


async def test_the_network_goes_away_and_comes_back(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    asked = prompt("boats")
    await demo.ask(asked)
    await demo.wait_text(80)
    with launch.silent_model():
        await context.set_offline(True)
        await cut_all(launch.first)  # Chromium's switch leaves open connections alone
        await demo.wait_state("No network")
        await demo.snap("offline")
        before = await demo.text()
        await context.set_offline(False)
        await demo.wait_trace("resumed 1")
    assert (await demo.wait_text(len(before) + 1)).startswith(before)
    assert await demo.wait_over() == oracle(asked)


async def test_an_answer_is_stopped_from_another_tab(launch: Launch, context: BrowserContext) -> None:
    one = await Demo.open(context, launch.first)
    asked = prompt("ships", tokens=1000)
    await one.ask(asked)
    await one.wait_text(60)
    two = await Demo.open(context, await one.other_gateway())
    await two.wait_text(60)
    await two.page.click("#stop")
    texts = await asyncio.gather(one.wait_over(), two.wait_over())
    assert texts[0] == texts[1]
    assert 60 <= len(texts[0]) < len(oracle(asked))
    assert oracle(asked).startswith(texts[0])
    for demo in (one, two):
        assert "stopped" in await demo.notes()
        await demo.wait_state("Stopped")
    await one.snap("stopped")
    await one.page.reload()
    assert await one.wait_over() == texts[0]
    assert "stopped" in await one.notes()


async def test_more_tabs_than_a_browser_has_connections_watch_and_stop(launch: Launch, context: BrowserContext) -> None:
    one = await Demo.open(context, launch.first)
    asked = prompt("crowds", tokens=4000)
    await one.ask(asked)
    await one.wait_text(60)
    tabs = [one] + [await Demo.open(context, one.page.url) for _ in range(7)]
    for tab in tabs:
        await tab.wait_text(60)
        await tab.wait_state("Writing")
    await cut_all(launch.first)
    for tab in tabs:
        await tab.wait_trace("resumed 1")
    await tabs[-1].page.click("#stop")
    texts = await asyncio.gather(*(tab.wait_over() for tab in tabs))
    assert len(set(texts)) == 1
    assert oracle(asked).startswith(texts[0])
    assert [complaint for tab in tabs for complaint in tab.complaints] == []
