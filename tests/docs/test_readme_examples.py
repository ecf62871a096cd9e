"""Every example of the README is run as it stands, but for the ports, against real processes."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from deploy.scripted_model.text import full_text
from shared.events import TextDelta, ToolOutputAvailable, decode_event
from tests.browser.conftest import chromium
from tests.deploy import native
from tests.deploy.program import running
from tests.docs.readme import ROOT, at, example
from tests.support.node import FOLDER, NodeProgram, node_binary
from tests.support.ports import free_pair
from tests.support.processes import ProcessGroup
from tests.support.redis import RedisServer
from tests.support.road import Road, open_road
from tests.support.wait import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def road(emptied_redis: RedisServer) -> AsyncIterator[Road]:
    async with open_road(emptied_redis.url) as opened:
        yield opened


async def run(*command: str, cwd: Path, within_s: float = 45.0) -> str:
    """Run a command to its end and return its output; fail with all of it if it failed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )  # fmt: skip
    try:
        async with asyncio.timeout(within_s):
            out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, f"{out.decode()}\n{errors.decode()}"
    return out.decode()


def said(prompt: str) -> str:
    return full_text([{"role": "user", "content": prompt}])


def events_of(*parts: str) -> list[str]:
    """Return the whole events in what curl wrote, in order."""
    lines = [line for part in parts for line in _whole(part).split("\n")]
    return [line[6:] for line in lines if line.startswith("data: ")]


def _whole(part: str) -> str:
    return part[: part.rfind("\n\n") + 2]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
async def test_curl(road: Road, tmp_path: Path) -> None:
    script = at(example("curl")["sh"], road.a, road.b).replace("--max-time 1 ", "--max-time 2 ")
    first, stop = script.split("last=", 1)[0], "last=" + script.split("last=", 1)[1]
    # the cut is the point: curl says 28 for it
    await run("bash", "-c", first + "\ntrue", cwd=tmp_path)
    resume, after = stop.split("curl -s -X POST", 1)
    await run("bash", "-c", resume, cwd=tmp_path)
    words = [
        event.delta
        for raw in events_of((tmp_path / "part1").read_text(), (tmp_path / "part2").read_text())
        if isinstance(event := decode_event(raw.encode()), TextDelta)
    ]
    assert "".join(words) == said("Tell me about tides")
    out = await run("bash", "-c", "curl -s -X POST" + after, cwd=tmp_path)
    assert '"state":"done"' in out


async def test_openai(road: Road, tmp_path: Path) -> None:
    code = at(example("openai")["python"], road.a, road.b)
    (tmp_path / "resume.py").write_text(code)
    out = await run(sys.executable, "resume.py", cwd=tmp_path)
    assert out == said("Tell me about rivers") + "\n"


SPEAKING = """
const log = console.log;
console.log = (text) => log(JSON.stringify(text));
"""
"""What `console.log` is given, a line each: a delta may hold line ends of its own."""


async def logged(code: str, tmp_path: Path, *flags: str) -> str:
    """Run a browser's example in Node; return all that it logged."""
    script = tmp_path / "example.mjs"
    script.write_text(SPEAKING + code)
    out = await run(node_binary(), *flags, str(script), cwd=FOLDER)
    return "".join(json.loads(line) for line in out.splitlines())


async def in_console(browser: Browser, page_url: str, code: str, whole: str) -> None:
    """Run a browser's example as its console does, on the demo page, until it has logged `whole`."""
    page = await browser.new_page()
    lines: list[str] = []
    page.on("console", lambda message: lines.append(message.text))
    await page.goto(page_url)
    lines.clear()
    await page.evaluate(f"(async () => {{ {code} }})()")
    await wait_until(lambda: "".join(lines) == whole)
    await page.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


async def test_event_source(road: Road, tmp_path: Path) -> None:
    code = at(example("event-source")["js"], road.a, road.b)
    assert await logged(code, tmp_path, "--experimental-eventsource") == said("Tell me about weirs")


async def test_websocket(road: Road, tmp_path: Path) -> None:
    code = at(example("websocket")["js"], road.a, road.b)
    assert await logged(code, tmp_path) == said("Tell me about floods")


@pytest.mark.parametrize(("name", "topic"), [("event-source", "weirs"), ("websocket", "floods")])
async def test_in_the_console_of_the_demo_page(road: Road, browser: Browser, name: str, topic: str) -> None:
    code = at(example(name)["js"], road.a, road.b)
    await in_console(browser, road.a, code, said(f"Tell me about {topic}"))


async def test_an_agent(start_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    url = start_redis().url  # its own: the road's worker does not know this model
    blocks = example("agent")
    (tmp_path / "weather_agent.py").write_text(blocks["python"])
    models = [{"name": "water", "kind": "agent", "agent": "weather_agent:agent"}]
    assert blocks["toml"].split("[[models]]")[1].split() == [
        *('name = "water"'.split()), *('kind = "agent"'.split()), *('agent = "weather_agent:agent"'.split()),
    ]  # fmt: skip
    async with ProcessGroup() as group:
        await group.worker(url, models, PYTHONPATH=tmp_path)
        gateway = await group.gateway(url, models)
        command = (
            *("curl", "-sN", "--max-time", "20", "-H", "Accept: text/event-stream"),
            *("-d", '{"messages": [{"role": "user", "content": "Millbridge"}]}'),
            f"{gateway.url}/chats/agent-demo/messages",
        )
        events = [decode_event(raw.encode()) for raw in events_of(await run(*command, cwd=tmp_path))]
    assert [event.output for event in events if isinstance(event, ToolOutputAvailable)] == [{"metres": 1.9}]
    text = "".join(event.delta for event in events if isinstance(event, TextDelta))
    assert text == "At Millbridge the water stands at 1.9 metres. "


@pytest.mark.timeout(120)
async def test_an_agent_by_make_run(tmp_path: Path) -> None:
    """In a folder that is the project's but for the two files, so that none is written into the real one."""
    blocks, port = example("agent"), free_pair()
    for entry in ROOT.iterdir():
        if entry.name in ("Makefile", "requirements.lock", "deploy", "gateway", "shared", "worker"):
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "weather_agent.py").write_text(blocks["python"])
    (tmp_path / "models.toml").write_text(blocks["toml"])
    # The line as it stands, but for the port, and with the environment that the tests run in.
    make = shlex.join(["make", "-o", f"{sys.prefix}/.locked", f"VENV={sys.prefix}", f"PORT={port}"])
    line = f"exec env {blocks['sh'].strip()}".replace("make", make, 1)
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "TAILRACE_", "MAKE"))}
    async with running(["sh", "-c", line], env=bare, cwd=tmp_path) as program:
        await program.wait_line("Tailrace is ready", within_s=60)
        assert "water from " in await program.wait_line("  model  ", within_s=1)
        async with native.connect(f"http://127.0.0.1:{port}") as client:
            frames = await native.read(client, await native.start(client, "agent-demo", "Millbridge"))
    assert native.text_of(frames) == "At Millbridge the water stands at 1.9 metres. "
    assert frames[-1].is_end


async def test_use_chat(road: Road, tmp_path: Path) -> None:
    shutil.copy(Path("gateway/static/tailrace.js"), tmp_path / "tailrace.js")
    (tmp_path / "hook.js").write_text(at(example("use-chat")["js"], road.a, road.b))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(FOLDER / "node_modules")
    async with NodeProgram("readme_use_chat.mjs") as node:
        text = await node.ask("chat", hook=str(tmp_path / "hook.js"), prompt="Tell me about silt [[rate=0]]")
    assert text == said("Tell me about silt [[rate=0]]")
