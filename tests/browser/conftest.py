"""One local run and one Chromium for all tests of the page."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright

from tests.deploy.program import Program, running
from tests.support.ports import free_pair
from tests.support.redis import skip_or_fail

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 45
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def find_chromium() -> str:
    """Return a Chromium's path (`TAILRACE_CHROMIUM` decides); skips, saying so, where there is none."""
    named = os.environ.get("TAILRACE_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        skip_or_fail("no Chromium on PATH (Debian: apt-get install chromium)")
    return found


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a Chromium; skips as `find_chromium`."""
    path = find_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        await browser.close()


@dataclass(frozen=True, slots=True)
class Launch:
    """A local run: `python -m deploy.local`, as `make run` starts it."""

    program: Program
    run_dir: Path
    first: str
    second: str

    def pid(self, name: str) -> int:
        """The process id of a child, as the launcher wrote it down."""
        pids: dict[str, int] = json.loads((self.run_dir / "children.json").read_text())
        return pids[name]

    @contextmanager
    def silent_model(self) -> Iterator[None]:
        """Freeze the model, so that no answer comes to its end while something is broken, however slow we are."""
        pid = self.pid("model")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def launch(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Launch]:
    run_dir = tmp_path_factory.mktemp("browser-run")
    port = free_pair()
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "TAILRACE_"))}
    env = {**bare, "TAILRACE_RUN_DIR": str(run_dir), "TAILRACE_PORT": str(port), "TAILRACE_LEASE_MS": "2000"}
    async with running([sys.executable, "-m", "deploy.local"], env=env, cwd=ROOT) as program:
        await program.wait_line("Tailrace is ready", within_s=READY_WITHIN_S)
        yield Launch(program, run_dir, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A person's browser: what it remembers is gone after the test."""
    context = await browser.new_context(viewport={"width": 1280, "height": 820})
    yield context
    await context.close()
