"""`python -m gateway` as operators meet it: what stops a start, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.support.gateway import MODELS, sse_types, started
from tests.support.ports import free_port
from tests.support.redis import RedisServer
from tests.support.wait import wait_until


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    models = tmp_path / "models.toml"
    models.write_text(MODELS)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TAILRACE_", "OPENAI_"))}
    port = free_port()
    ours = {"TAILRACE_REDIS_URL": redis_url, "TAILRACE_UPSTREAMS_FILE": str(models), "TAILRACE_PORT": str(port)}
    return {**inherited, **ours, "TAILRACE_DRAIN_S": "0.2"}


@asynccontextmanager
async def process(environment: dict[str, str]) -> AsyncIterator[Process]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env=environment, stdout=PIPE, stderr=PIPE
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def outcome(environment: dict[str, str]) -> tuple[int | None, str]:
    async with process(environment) as running, asyncio.timeout(30):
        _, told = await running.communicate()
        return running.returncode, told.decode()


async def wait_ready(client: httpx.AsyncClient) -> None:
    async def ready() -> bool:
        try:
            return (await client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    await wait_until(ready, 20, what="the gateway did not get ready")


@pytest.mark.parametrize(
    ("wrong", "status", "told"),
    [
        ({"TAILRACE_HOST": "0.0.0.0"}, 2, "TAILRACE_HOST=0.0.0.0"),
        ({"TAILRACE_API_KEYS": "canary"}, 2, "TAILRACE_API_KEYS"),
        ({"TAILRACE_JWT_SECRET": "canary"}, 2, "TAILRACE_JWT_SECRET"),
        ({"TAILRACE_PORT": "canary"}, 2, "tailrace gateway: TAILRACE_PORT: Input should be"),
        ({"TAILRACE_UPSTREAMS_FILE": "/no/such/file"}, 2, "/no/such/file"),
        (
            {"TAILRACE_REDIS_URL": "http://:canary@h"},
            2,
            "TAILRACE_REDIS_URL: a Redis URL begins with",
        ),
        ({"TAILRACE_QUEUE_REDIS_URL": "redis://:canary@[h"}, 2, "TAILRACE_QUEUE_REDIS_URL: a Redis URL"),
        ({"TAILRACE_LOG_LEVEL": "chatty"}, 2, "TAILRACE_LOG_LEVEL: Input should be 'DEBUG', "),
    ],
)
async def test_settings_that_cannot_be_right_are_named(
    environment: dict[str, str], wrong: dict[str, str], status: int, told: str
) -> None:
    code, text = await outcome({**environment, **wrong})
    assert code == status
    assert told in text
    assert "canary" not in text
    assert "Traceback" not in text


async def test_a_taken_port_is_said_in_one_sentence(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = await outcome({**environment, "TAILRACE_PORT": str(port)})
    assert code == 1
    assert text == f"tailrace gateway: 127.0.0.1:{port} is taken; set TAILRACE_PORT to a free port\n"


async def test_a_redis_that_may_drop_keys_is_refused(
    environment: dict[str, str], start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis(args=["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"])
    code, text = await outcome({**environment, "TAILRACE_REDIS_URL": redis.url})
    assert code == 2
    assert "allkeys-lru" in text
    assert "noeviction" in text


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_and_its_viewers_by_a_break(environment: dict[str, str], sent: int) -> None:
    url = f"http://127.0.0.1:{environment['TAILRACE_PORT']}"
    async with process(environment) as running, httpx.AsyncClient(base_url=url, timeout=20) as client:
        await wait_ready(client)
        await started(client)
        text = ""

        async def watch() -> None:
            nonlocal text
            async with client.stream("GET", "/chats/c/messages/m/stream") as viewer:
                async for part in viewer.aiter_text():
                    text += part
                    if sse_types(text) == ["created"]:
                        running.send_signal(sent)

        with pytest.raises(httpx.RemoteProtocolError):
            await watch()
        async with asyncio.timeout(10):
            assert await running.wait() == 0


async def test_what_it_logs_is_json_and_tells_no_content(environment: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{environment['TAILRACE_PORT']}"
    async with process(environment) as running, httpx.AsyncClient(base_url=url, timeout=20) as client:
        await wait_ready(client)
        ask = {"messages": [{"role": "user", "content": "canary"}]}
        headers = {"authorization": "Bearer canary", "user-agent": "canary"}
        assert (await client.post("/chats/c/messages", json=ask, headers=headers)).status_code == 202
        assert (await client.post("/chats/c/messages", json=ask, headers=headers)).status_code == 409
        assert (await client.get("/canary?canary=1", headers=headers)).status_code == 404
        running.terminate()
        async with asyncio.timeout(10):
            _, told = await running.communicate()
    lines = told.decode().splitlines()
    assert [msgspec.json.decode(line)["event"] for line in lines if "listening" in line] == ["listening"]
    assert "canary" not in told.decode()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc to see who listens")
async def test_two_gateways_share_a_port_if_they_are_told_to(environment: dict[str, str]) -> None:
    """Each of many new connections finds one of them; once one is gone, the other."""
    shared = {**environment, "TAILRACE_REUSE_PORT": "true"}
    base = f"http://127.0.0.1:{environment['TAILRACE_PORT']}"
    async with process(shared) as one, process(shared) as other:
        async with httpx.AsyncClient(base_url=base) as client:
            await wait_ready(client)
        port = int(environment["TAILRACE_PORT"])
        await wait_until(lambda: {one.pid, other.pid} <= _listeners(port), 20, what="both do not listen")
        one.terminate()
        assert await asyncio.wait_for(one.wait(), 20) == 0
        for _ in range(20):
            async with httpx.AsyncClient(base_url=base) as client:
                assert (await client.get("/healthz")).status_code == 200


def _listeners(port: int) -> set[int]:
    """Return the processes that listen on a loopback port."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].partition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) in inodes:
                found.add(int(link.parts[2]))
    return found
