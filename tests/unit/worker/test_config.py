"""Upstreams from the models file: a key that is missing is said, and what generations share keeps nothing of any."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from shared.models import Models, ModelSpec, load_models
from tests.unit.worker.raw_server import DONE, HEAD, RawServer, chunk, raw_server
from worker.settings import WorkerSettings
from worker.upstreams.config import Upstreams

NAMED = ModelSpec(name="named", base_url="http://model/v1", api_key_env="A_KEY")
USUAL = ModelSpec(name="usual", kind="responses")
KEYLESS = ModelSpec(name="keyless", base_url="http://model/v1")
AGENT = ModelSpec(name="agent", kind="agent", agent="tests.integration.worker_agents:weather")


async def warned(models: Models, environment: Mapping[str, str], caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the model and the variable of every warning at the start."""
    upstreams = Upstreams(models, WorkerSettings(), environment)
    await upstreams.close()
    lines = [vars(record) for record in caplog.records if record.levelno == logging.WARNING]
    assert {line["msg"] for line in lines} <= {"model without its key: the variable is unset, empty or unsendable"}
    return [f"{line['model']} {line['variable']}" for line in lines]


@pytest.mark.parametrize("missing", [{}, {"A_KEY": "", "OPENAI_API_KEY": ""}])
async def test_a_missing_key_is_named_with_its_model(missing: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    models = Models([KEYLESS, NAMED, USUAL, AGENT])
    assert await warned(models, missing, caplog) == ["named A_KEY", "usual OPENAI_API_KEY"]


async def test_keys_that_are_there_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    models = Models([KEYLESS, NAMED, USUAL, AGENT])
    assert await warned(models, {"A_KEY": "sk-1", "OPENAI_API_KEY": "sk-2"}, caplog) == []


async def test_a_server_of_ones_own_is_asked_for_no_key_unless_there_is_one(caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = {"OPENAI_BASE_URL": "http://model/v1"}
    assert await warned(load_models("", elsewhere), elsewhere, caplog) == []
    assert await warned(load_models("", {}), {}, caplog) == ["gpt-4o-mini OPENAI_API_KEY"]


@pytest.mark.parametrize("around", ["\n", "\r\n", " "])
async def test_a_key_is_sent_without_the_end_of_its_file(caller: Any, around: str) -> None:
    """A Secret that was made of a file, or with echo, ends with a line feed, which no header can hold."""
    async with raw_server([HEAD, chunk({"content": "x"}), chunk(finish_reason="stop"), DONE]) as server:
        spec = ModelSpec(name="named", base_url=server.url, api_key_env="A_KEY")
        upstreams = Upstreams(Models([spec]), WorkerSettings(), {"A_KEY": f"sk-1{around}"})
        await caller.call(upstreams.get("named"))
        assert b"\r\nauthorization: bearer sk-1\r\n" in server.requests[0].lower()
    await upstreams.close()


@pytest.mark.parametrize("key", ["sk-1\nsk-2", "sk-1\u201d", " \n"])
async def test_a_key_that_no_header_can_hold_is_as_good_as_none(key: str, caplog: pytest.LogCaptureFixture) -> None:
    assert await warned(Models([NAMED]), {"A_KEY": key}, caplog) == ["named A_KEY"]
    assert "sk-" not in caplog.text


COOKIE = HEAD.replace(b"Connection:", b"Set-Cookie: session=ann; Path=/\r\nConnection:")


def cookies(server: RawServer) -> list[bool]:
    """Return of each request whether it had a cookie."""
    return [b"\r\ncookie:" in head.lower() for head in server.requests]


async def test_a_cookie_of_one_agents_call_is_not_sent_with_anothers() -> None:
    upstreams = Upstreams(Models([AGENT]), WorkerSettings(), {})
    async with raw_server([COOKIE, b"x"]) as server:
        for own in ({}, {}, {"mine": "1"}):
            await upstreams.http().get(server.url, headers={"cookie": "mine=1"} if own else {})
        assert cookies(server) == [False, False, True]
    await upstreams.close()


async def test_a_models_cookie_does_not_bind_all_later_answers_to_one_of_its_servers(caller: Any) -> None:
    async with raw_server([COOKIE, chunk({"content": "x"}), chunk(finish_reason="stop"), DONE]) as server:
        upstream = caller.upstream(server.url)
        for _ in range(2):
            await caller.call(upstream)
        assert cookies(server) == [False, False]


async def test_as_many_agents_as_there_are_slots_call_at_the_same_time() -> None:
    slots = 130
    upstreams = Upstreams(Models([AGENT]), WorkerSettings(worker_slots=slots), {})
    async with raw_server([HEAD, b"x"], hold_open=True) as server, AsyncExitStack() as stack, asyncio.timeout(10):
        for _ in range(slots):
            response = await stack.enter_async_context(upstreams.http().stream("GET", server.url))
            assert response.status_code == 200
    await upstreams.close()


async def test_a_call_of_an_agents_tool_is_not_held_to_the_models_deadline_for_silence() -> None:
    settings = WorkerSettings(silence_s=0.1)
    upstreams = Upstreams(Models([AGENT]), settings, {})
    may_answer, closed = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await may_answer.wait()
        writer.write(HEAD + b"level: 1.9")
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with await asyncio.start_server(slow, "127.0.0.1", 0) as server, asyncio.timeout(10):
        port = server.sockets[0].getsockname()[1]
        call = asyncio.create_task(upstreams.http().get(f"http://127.0.0.1:{port}"))
        await asyncio.wait({call}, timeout=5 * settings.silence_s)
        may_answer.set()
        assert (await call).text == "level: 1.9"
        await closed.wait()
    await upstreams.close()
