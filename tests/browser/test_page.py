"""What the page shows and lets people do: chats everywhere, failures, tools, keys alone, a phone, hostile text."""

from __future__ import annotations

import time
from typing import Literal

import httpx
import jwt
import pytest
from playwright.async_api import Browser, BrowserContext, Route

from tests.browser.conftest import Launch
from tests.browser.demo import Demo, oracle, prompt
from tests.support.processes import ProcessGroup, chat_model

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]
SECRET = "a-secret-for-tests-of-32-bytes-or-more"
HOSTILE = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script> [x](javascript:window.pwned=1)"


async def test_chats_are_listed_in_a_browser_that_has_never_seen_them(launch: Launch, browser: Browser) -> None:
    mine = await browser.new_context()
    theirs = await browser.new_context()
    try:
        watching = await Demo.open(theirs, launch.second)
        asking = await Demo.open(mine, launch.first)
        asked = prompt("ferries", tokens=100)
        await asking.ask(asked)
        link = watching.page.locator("#chats a", has_text="Tell me about ferries")
        await link.locator(".spin").wait_for(state="visible")
        await watching.snap("sidebar")
        await link.click()
        assert await watching.wait_over() == await asking.wait_over() == oracle(asked)
        await link.locator(".spin").wait_for(state="detached")
        assert watching.complaints == asking.complaints == []
    finally:
        await mine.close()
        await theirs.close()


async def test_opened_as_localhost_it_leads_to_the_other_gateway_too(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first.replace("127.0.0.1", "localhost"))
    assert (await demo.other_gateway()).startswith(launch.second)
    assert await demo.page.locator("#other").inner_text() == f"Open on :{launch.second.rpartition(':')[2]} ↗"


@pytest.mark.parametrize("missed", ["app.js", "markdown.js", "config.json"])
async def test_a_page_that_lacks_a_file_waits_for_a_gateway_and_starts(
    launch: Launch, context: BrowserContext, missed: str
) -> None:
    asked_for = 0

    async def refuse(route: Route) -> None:
        nonlocal asked_for
        asked_for += 1
        await (route.abort("connectionrefused") if asked_for <= 2 else route.continue_())

    await context.route(f"**/static/{missed}", refuse)
    demo = await Demo.open(context, launch.first)
    assert asked_for > 2
    assert await demo.page.evaluate("() => sessionStorage.getItem('tailrace.starts')") is None
    asked = prompt("wells", rate=0)
    await demo.ask(asked)
    assert await demo.wait_over() == oracle(asked)


async def test_an_answer_is_written_again(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    asked = prompt("ropes", rate=0)
    await demo.ask(asked)
    assert await demo.wait_over() == oracle(asked)
    first = await demo.page.get_attribute(".turn:last-child", "data-id")
    await demo.page.click("text=Regenerate")
    await demo.wait("(old) => document.querySelector('.turn:last-child').dataset.id !== old", arg=first)
    assert await demo.wait_over() == oracle(asked)
    assert await demo.page.locator(".turn").count() == 2


async def test_markdown_reasoning_and_a_tool_call_are_shown_and_read_back(
    launch: Launch, context: BrowserContext
) -> None:
    demo = await Demo.open(context, launch.first)
    await demo.page.check("#tool")
    await demo.ask("What time is it? [[tool=1 reasoning=12 markdown=1 tokens=260 rate=0]]")
    await demo.wait("() => document.querySelectorAll('.turn.assistant .text').length > 0")
    await demo.wait_over()

    async def shown() -> list[str]:
        await demo.page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        return await demo.page.locator(".turn .answer").all_inner_texts()

    before = await shown()
    assert len(before) == 2
    assert "local_time" in before[0]
    assert '"zone"' in before[0]
    assert "The tool local_time answered" in before[1]
    for selector in (".answer h4", ".answer li", ".answer strong"):
        assert await demo.page.locator(selector).count() > 0
    await demo.snap("tool")
    await demo.page.reload()
    await demo.wait("() => document.querySelectorAll('.turn.assistant').length === 2")
    assert await shown() == before
    assert demo.complaints == []


async def test_what_could_not_be_copied_is_not_said_to_be(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    await demo.ask(prompt("nets", rate=0, tokens=20))
    await demo.wait_over()
    button = demo.page.locator("[aria-label='Copy the answer']")
    for clipboard, words in (
        ("undefined", "Not copied"),  # as where the page came without TLS from another machine
        ("{ writeText: () => Promise.reject(new Error('denied')) }", "Not copied"),
        ("{ writeText: async (text) => (window.copied = text) }", "Copied"),
    ):
        await demo.page.evaluate(
            f"Object.defineProperty(navigator, 'clipboard', {{value: {clipboard}, configurable: true}})"
        )
        await button.click()
        await button.get_by_text(words, exact=True).wait_for(state="visible")
    assert await demo.page.evaluate("window.copied") == await demo.text()
    assert demo.complaints == []


async def test_a_failure_says_its_code_and_keeps_what_was_said(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    await demo.ask(prompt("storms", rate=0, fault="error@30"))
    await demo.wait_state("Failed")
    assert "failed: upstream_error" in await demo.notes()
    assert len(await demo.text()) > 50
    await demo.snap("failed")


async def test_nothing_that_a_model_writes_becomes_more_than_text(launch: Launch, context: BrowserContext) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":"' + "<b>" + '"}'}}
    messages = [
        {"role": "user", "content": f"Go on {HOSTILE} [[tokens=80 rate=0 reasoning=0 markdown=0]]"},
        {"role": "assistant", "content": HOSTILE, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": HOSTILE},
    ]
    body = {"messages": messages, "message_id": "m", "metadata": {"title": HOSTILE}}
    async with httpx.AsyncClient(base_url=launch.first) as client:
        assert (await client.post("/chats/hostile/messages", json=body)).status_code == 202
    demo = await Demo.open(context, f"{launch.first}/#c=hostile")
    await demo.wait_over()
    assert "<img" in await demo.text()
    assert await demo.page.evaluate("window.pwned") is None
    assert await demo.page.locator(".turns img, .turns script, #chats img, .turns a[href^=javascript]").count() == 0
    assert demo.complaints == []


async def test_it_can_be_used_with_the_keyboard_alone(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    keyboard = demo.page.keyboard
    focused = "() => document.activeElement.id || document.activeElement.textContent.trim()"
    assert await demo.page.evaluate(focused) == "prompt"
    await keyboard.type(prompt("keys", tokens=1000))
    await keyboard.press("Enter")
    await demo.wait_text(40)
    assert await demo.page.evaluate(focused) == "prompt"
    await keyboard.press("Escape")
    await demo.wait_over()
    assert "stopped" in await demo.notes()
    await keyboard.press("Shift+Tab")
    assert await demo.page.evaluate(focused) == "Kill the worker"
    unnamed = """() => [...document.querySelectorAll('button, a, input, textarea, summary')].filter((each) =>
      !(each.getAttribute('aria-label') || each.textContent.trim() || each.labels?.length)).map((each) => each.id)"""
    assert await demo.page.evaluate(unnamed) == []
    spoken = await demo.page.inner_text("#spoken")
    assert "Stopped." in spoken
    assert len(spoken.splitlines()) < 12


async def test_the_enter_that_ends_a_composition_sends_nothing(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    await demo.page.fill("#prompt", "日本 [[tokens=5 rate=0]]")
    # Chromium says so with `isComposing`, Safari only with the old code, when the composition is already over
    for ends in ("isComposing: true", "keyCode: 229"):
        press = f"new KeyboardEvent('keydown', {{key: 'Enter', bubbles: true, cancelable: true, {ends}}})"
        await demo.page.evaluate(f"document.querySelector('#prompt').dispatchEvent({press})")
        assert await demo.page.locator(".turn").count() == 0
    await demo.page.keyboard.press("Enter")
    assert await demo.wait_over()


async def test_what_began_anew_is_read_out_from_its_beginning(launch: Launch, context: BrowserContext) -> None:
    demo = await Demo.open(context, launch.first)
    spoken = """async () => {
      const { Speaker } = await import('/static/speaker.js');
      const region = document.createElement('div');
      const speaker = new Speaker(region);
      const message = (text, state) => ({ message_id: 'm', state, parts: [{ type: 'text', text }] });
      speaker.hear(message('最初はこう言った。そして', 'running'));
      while (!region.textContent) await new Promise((resolve) => setTimeout(resolve, 50));
      speaker.hear(message('A second one', 'running'));
      speaker.finish(message('A second one says that, and more than the first did.', 'done'));
      return [...region.children].map((each) => each.textContent);
    }"""
    assert await demo.page.evaluate(spoken) == [
        "最初はこう言った。",
        "A second one says that, and more than the first did.",
        "Answer complete.",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone(launch: Launch, browser: Browser, scheme: Literal["light", "dark"]) -> None:
    context = await browser.new_context(
        viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True, color_scheme=scheme
    )
    try:
        demo = await Demo.open(context, launch.first)
        await demo.snap(f"phone-empty-{scheme}")
        await demo.ask("Show me everything [[markdown=1 tokens=400 rate=0 reasoning=5]]")
        await demo.wait_over()
        wide = "() => document.documentElement.scrollWidth > innerWidth"
        assert await demo.page.evaluate(wide) is False
        await demo.snap(f"phone-{scheme}")
        await demo.page.click("#open-side")
        await demo.page.locator("#chats a").first.wait_for(state="visible")
        await demo.wait("() => document.querySelector('#side').getBoundingClientRect().left === 0")
        await demo.snap(f"phone-side-{scheme}")
        # what the panel covers cannot be reached; when it closes, the focus is where it was
        where = "() => [document.querySelector('main').inert, document.activeElement.id]"
        assert await demo.page.evaluate(where) == [True, "close-side"]
        await demo.page.keyboard.press("Escape")
        assert await demo.page.evaluate(where) == [False, "open-side"]
        await demo.wait("() => document.querySelector('#side').getBoundingClientRect().right <= 0")
    finally:
        await context.close()


async def test_the_narrowest_phone_shows_every_way_to_break_things(launch: Launch, browser: Browser) -> None:
    context = await browser.new_context(viewport={"width": 320, "height": 640}, is_mobile=True, has_touch=True)
    try:
        demo = await Demo.open(context, launch.first)
        box = "each.getBoundingClientRect()"
        inside = f"(each) => {box}.width > 0 && {box}.left >= 0 && {box}.right <= innerWidth"
        shown = f"() => [...document.querySelectorAll('#break button')].map({inside})"
        assert await demo.page.evaluate(shown) == [True, True, True]
    finally:
        await context.close()


async def test_a_chat_of_another_client_is_named_after_its_first_question(
    launch: Launch, context: BrowserContext
) -> None:
    async with httpx.AsyncClient(base_url=launch.first) as client:
        body = {"model": "scripted", "messages": [{"role": "user", "content": "Where do eels go? [[tokens=5 rate=0]]"}]}
        assert (await client.post("/chats/by-curl/messages", json=body)).status_code == 202
    demo = await Demo.open(context, f"{launch.first}/#c=by-curl")
    await demo.wait_over()
    # The name is asked for beside the answer, and may come after its end.
    for place in ("#title", "#chats a"):
        await demo.page.locator(place, has_text="Where do eels go?").wait_for(state="visible")


async def test_text_runs_as_its_script_does_and_wide_tables_scroll(launch: Launch, browser: Browser) -> None:
    wide = f"| {' | '.join(f'column {n}' for n in range(9))} |\n|{'---|' * 9}\n| one<br>two |"
    said = f"مرحبا English.\n\nEnglish مرحبا.\n\n- بند\n\n  ```\n  x\n  ```\n\n> اقتباس\n\n{wide}"
    turns = [("user", "كيف حالك؟"), ("assistant", said), ("user", "Go on [[tokens=5 rate=0]]")]
    body = {"messages": [{"role": role, "content": text} for role, text in turns]}
    async with httpx.AsyncClient(base_url=launch.first) as client:
        assert (await client.post("/chats/scripts/messages", json=body)).status_code == 202
    context = await browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True)
    try:
        demo = await Demo.open(context, f"{launch.first}/#c=scripts")
        await demo.wait_over()
        runs = "(where) => [...document.querySelectorAll(where)].map((each) => getComputedStyle(each).direction)"
        assert await demo.page.evaluate(runs, ".turn:nth-child(2) .text > p") == ["rtl", "ltr"]
        assert await demo.page.evaluate(runs, ".turn:first-child .said, .answer li, .answer blockquote") == ["rtl"] * 3
        assert await demo.page.evaluate(runs, ".answer pre") == ["ltr"]
        # words of a table stay whole, and it scrolls by itself
        scrolls = "() => document.querySelector('.answer .table').scrollWidth > 360 && document.body.scrollWidth <= 360"
        assert await demo.page.evaluate(scrolls)
        assert await demo.page.evaluate("() => document.querySelector('.answer th').clientHeight") < 70
        assert await demo.page.locator(".answer td br").count() == 1
        await demo.snap("scripts")
    finally:
        await context.close()


async def test_a_chat_that_the_server_has_forgotten_is_said_to_be_gone_and_leaves_the_list(
    launch: Launch, context: BrowserContext
) -> None:
    kept = '[{"id": "forgotten", "title": "Of yesterday", "at": 1, "last": "m"}]'
    await context.add_init_script(f"localStorage['tailrace.chats'] ??= '{kept}'")
    demo = await Demo.open(context, launch.first)
    old = demo.page.locator("#chats a", has_text="Of yesterday")
    await old.click()
    await demo.wait_state("no longer kept")
    await old.wait_for(state="detached")
    await demo.page.reload()
    await demo.wait_state("no longer kept")
    assert await old.count() == 0


async def test_code_that_grows_stays_where_it_was_scrolled_and_selected(
    launch: Launch, context: BrowserContext
) -> None:
    demo = await Demo.open(context, launch.first)
    grown = """async () => {
      const { Answer } = await import('/static/view.js');
      const answer = new Answer();
      document.querySelector('#turns').append(answer.element);
      const say = (text, state = 'streaming') =>
        answer.update({ state: 'running', parts: [{ type: 'text', id: '0', text, state }] });
      const line = 'a line that is far too wide '.repeat(20);
      say('```p'); say('```py'); say('```py\\n' + line);
      const pre = answer.element.querySelector('pre');
      pre.focus();
      pre.scrollLeft = 300;
      getSelection().selectAllChildren(pre);
      say('```py\\n' + line + '\\nmore');
      const kept = [document.activeElement === pre, pre.scrollLeft, getSelection().toString().length > 100];
      say('```py\\n' + line + '\\nmore\\n```\\nafter', 'done');
      return [...kept, answer.element.innerText.replace(line.trim(), 'LINE').replace(/\\s+/g, ' ')];
    }"""
    assert await demo.page.evaluate(grown) == [True, 300, True, "py Copy LINE more after"]


async def test_a_guarded_gateway_asks_who_is_there(redis_url: str, context: BrowserContext) -> None:
    async with ProcessGroup() as group:
        model = await group.model()
        models = [chat_model(model.port, default=True)]
        gateway = await group.gateway(redis_url, models, TAILRACE_API_KEYS="a-key=acme/ann")
        await group.worker(redis_url, models)
        asking, watching = Demo(await context.new_page()), Demo(await context.new_page())
        for demo, keys in ((asking, ("wrong", "a-key")), (watching, ("a-key",))):
            await demo.page.goto(gateway.url)
            for key in keys:
                await demo.page.fill("#credential", key)
                await demo.page.keyboard.press("Enter")
            await demo.page.locator("#sign-in").wait_for(state="hidden")
        assert await asking.page.locator("#break").is_hidden()
        asked = prompt("locks", tokens=20_000)
        await asking.ask(asked)
        # the other tab hears of it over its WebSocket, which has the key among its subprotocols
        spinner = watching.page.locator("#chats .spin")
        await spinner.wait_for(state="visible")
        await asking.wait_text(100)
        await asking.page.click("#stop")
        said = await asking.wait_over()
        assert oracle(asked).startswith(said)
        await spinner.wait_for(state="detached")
        await asking.page.reload()
        assert await asking.wait_over() == said


async def test_a_token_that_ends_in_mid_answer_is_asked_for_again_and_the_answer_goes_on(
    redis_url: str, context: BrowserContext
) -> None:
    def token(lasts_s: float) -> str:
        return jwt.encode({"sub": "ann", "tenant": "acme", "exp": time.time() + lasts_s}, SECRET, "HS256")

    async with ProcessGroup() as group:
        model = await group.model()
        models = [chat_model(model.port, default=True)]
        gateway = await group.gateway(redis_url, models, TAILRACE_JWT_SECRET=SECRET)
        await group.worker(redis_url, models)
        demo = Demo(await context.new_page())
        await demo.page.goto(gateway.url)
        dialog = demo.page.locator("#sign-in")
        await dialog.wait_for(state="visible")
        assert "not accepted" not in await dialog.inner_text()
        for wrong in ("nonsense", token(-60)):
            await demo.page.fill("#credential", wrong)
            await demo.page.keyboard.press("Enter")
            await dialog.get_by_text("not accepted").wait_for(state="visible")
        await demo.page.fill("#credential", token(6))
        await demo.page.keyboard.press("Enter")
        await dialog.wait_for(state="hidden")
        asked = prompt("tokens", tokens=600, rate=50)
        await demo.ask(asked)
        await demo.wait_text(40)
        await dialog.wait_for(state="visible")
        await demo.page.keyboard.press("Escape")  # of the dialog, which comes back; it stops no answer
        await dialog.wait_for(state="visible")
        await demo.page.fill("#credential", token(600))
        await demo.page.keyboard.press("Enter")
        assert await demo.wait_over() == oracle(asked)
        assert "failed" not in await demo.notes()
