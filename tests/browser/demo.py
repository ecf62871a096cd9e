"""Owns the page as a person uses it: ask, watch, stop, break things. Every wait is for a condition, with a deadline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from playwright.async_api import BrowserContext, Page, Request, Response, TimeoutError

from deploy.scripted_model.text import full_text

SHOTS = Path(__file__).parent / ".shots"
WITHIN_MS = 20_000

# With plain paragraphs the page's text is the model's, but for the gaps between them.
_TEXT = (
    """() => [...document.querySelectorAll('.turn:last-child .text > p')].map((p) => p.textContent).join('\\n\\n')"""
)
_LONGER = f"(count) => ({_TEXT})().length >= count"
_OVER = """() => document.querySelector('#stop').hidden && !document.querySelector('.growing') &&
  document.querySelector('.turn.assistant:last-child .note > *') !== null"""
# States may pass too quickly to be seen by looking now and then, so the page's own words are kept.
_REMEMBER = """window.said = []; addEventListener('DOMContentLoaded', () => {
  const state = document.querySelector('#state');
  new MutationObserver(() => said.push(state.textContent)).observe(state, { subtree: true, childList: true });
});"""
_EXPECTED = ("ERR_", "WebSocket connection to", "net::")


def prompt(subject: str, *, tokens: int = 200, rate: int = 40, **more: object) -> str:
    """Return a prompt for plain text at a pace that leaves time to break something."""
    wishes = {"tokens": tokens, "rate": rate, "markdown": 0, "reasoning": 0, **more}
    return f"Tell me about {subject} [[{' '.join(f'{name}={value}' for name, value in wishes.items())}]]"


def oracle(text: str) -> str:
    """Return the whole answer to `text`."""
    return full_text([{"role": "user", "content": text}])


class Demo:
    """One tab. `complaints` are what the page itself did wrong: exceptions and errors that no cut explains."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.unanswered: set[Request] = set()
        """What the page has asked for and not got to the end."""
        self.refused: list[str] = []
        """What it has not got, and why."""
        page.on("request", lambda request: self.unanswered.add(request))
        page.on("requestfinished", lambda request: self.unanswered.discard(request))
        page.on("requestfailed", self._note_failed)
        page.on("response", self._note_status)
        page.set_default_timeout(WITHIN_MS)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("console", lambda message: self._note(message.type, message.text))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and not any(word in text for word in _EXPECTED):
            self.complaints.append(text)

    def _note_failed(self, request: Request) -> None:
        self.unanswered.discard(request)
        self.refused.append(f"{request.url}: {request.failure}")

    def _note_status(self, response: Response) -> None:
        if response.status >= 400:
            self.refused.append(f"{response.url}: {response.status}")

    @classmethod
    async def open(cls, context: BrowserContext, url: str) -> Self:
        """Open a tab and wait until the page runs and has said how it stands."""
        demo = cls(await context.new_page())
        await demo.page.add_init_script(_REMEMBER)
        await demo.page.goto(url)
        await demo.wait("() => ['#where', '#state span'].every((at) => document.querySelector(at).textContent !== '')")
        return demo

    async def wait(self, expression: str, arg: object = None, *, within_ms: float = WITHIN_MS) -> None:
        """Wait until a function of the page's returns something true; say how the page stands if it does not.

        Asked by the clock: a page that paints nothing, as it may under load, has no animation frames to ask in.
        """
        try:
            await self.page.wait_for_function(expression, arg=arg, timeout=within_ms, polling=50)
        except TimeoutError as error:
            stands = await self.page.evaluate("() => [document.readyState, document.body.innerText.slice(0, 2500)]")
            urls = sorted(request.url for request in self.unanswered)
            raise AssertionError(
                f"{expression}: {stands}, {self.complaints}, {self.refused}, waits for {urls}"
            ) from error

    async def ask(self, text: str) -> None:
        """Type and send; returns at once."""
        await self.page.fill("#prompt", text)
        await self.page.keyboard.press("Enter")

    async def wait_text(self, count: int) -> str:
        """Wait until the last answer has so many characters; return it."""
        await self.wait(_LONGER, count)
        return await self.text()

    async def text(self) -> str:
        """The last answer as it stands on the page."""
        said: str = await self.page.evaluate(_TEXT)
        return said

    async def wait_over(self) -> str:
        """Wait until nothing is being written and return the last answer."""
        await self.wait(_OVER, within_ms=WITHIN_MS * 2)
        return await self.text()

    async def wait_state(self, words: str) -> None:
        """Wait until the line below the message box says this, or has said it since the page was loaded."""
        await self.wait("(words) => said.some((text) => text.includes(words))", words)

    async def wait_trace(self, words: str) -> None:
        """Wait until what the page tells about its connection has this in it."""
        shown = "(words) => document.querySelector('#trace').textContent.includes(words)"
        await self.wait(shown, words)

    async def other_gateway(self) -> str:
        """The link to the same chat on the other gateway."""
        href = await self.page.get_attribute("#other", "href")
        assert href is not None
        return href

    async def break_it(self, what: str) -> None:
        """Press one of the buttons that break something."""
        await self.page.click(f"[data-break={what}]")

    async def notes(self) -> str:
        """What stands below the last answer."""
        return await self.page.inner_text(".turn:last-child .note")

    async def snap(self, name: str, **options: Any) -> None:
        """Keep a picture."""
        SHOTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=SHOTS / f"{name}.png", **options)
