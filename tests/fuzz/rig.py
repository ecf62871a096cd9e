"""Owns what is fuzzed: a gateway process with a worker and a scripted model behind it, and a user with a secret.

Alice has a message that is over, one that goes on for ever, a response and a completion; all hold `CANARY`, in what was
asked and as the name of the model, which every stream tells. Nobody but she may ever be told (but for `/v1/models`).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from tests.support.ports import free_port
from tests.support.processes import ProcessGroup, ServerProcess, chat_model, http_status
from tests.support.redis import RedisServer, make_redis

T = TypeVar("T")

CANARY = "zebra-quartz-4711"
ASKED = "heliotrope-0815"
"""What Alice asked; unlike a model's name it has no place in a log either."""
ALICE, BOB, STRANGER = "key-of-alice-1234567", "key-of-bob-12345678", "key-of-namesake-12345"
UPSTREAM_KEY = "sk-upstream-secret-98765"
JWT_SECRET = "jwt-secret-of-thirty-two-bytes-or-more"
CHAT, DONE, LIVE = "alices-chat", "alices-done", "alices-live"
LONGEST_LINE = 4096
"""Ids are in log lines, escaped, and nothing else that clients choose."""
KEYS: tuple[str | None, ...] = (ALICE, BOB, STRANGER, None, "no-such-key")

_SETTINGS: dict[str, Any] = {
    "TAILRACE_API_KEYS": f"{ALICE}=acme/alice,{BOB}=acme/bob,{STRANGER}=other/alice",
    "TAILRACE_JWT_SECRET": JWT_SECRET,
    "TAILRACE_HEARTBEAT_S": 0.5,
    "TAILRACE_BODY_DEADLINE_S": 3,
    "TAILRACE_LEASE_MS": 2000,
    "TAILRACE_BUSY_POLICY": "parallel",
    "TAILRACE_MESSAGE_DEADLINE_S": 900,
    "TAILRACE_FUZZ_UPSTREAM_KEY": UPSTREAM_KEY,
}


@dataclass
class Rig:
    """The parts, Alice's things, and how the gateway stood before anything was fuzzed."""

    group: ProcessGroup
    redis: RedisServer
    worker: ServerProcess
    gateway: ServerProcess
    runner: asyncio.AbstractEventLoop
    ids: dict[str, str] = field(default_factory=dict)
    fds: int = 0

    @property
    def port(self) -> int:
        return self.gateway.port

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop that owns the processes."""
        return asyncio.run_coroutine_threadsafe(work, self.runner).result(60)

    def open_fds(self) -> int:
        """Return how many files and sockets the gateway has open."""
        return len(os.listdir(f"/proc/{self.gateway.pid}/fd"))

    def viewers(self) -> float:
        """Return the gateway's own count of its viewers."""
        reply = httpx.get(f"{self.gateway.url}/metrics", headers={"authorization": f"Bearer {ALICE}"}, timeout=10)
        found = re.search(r"^tailrace_gateway_viewers (\S+)$", reply.text, re.MULTILINE)
        assert found is not None, reply.text[:500]
        return float(found[1])

    def check_rest(self) -> None:
        """Raise `AssertionError` unless the gateway is as well as in the beginning, within some seconds."""
        end = time.monotonic() + 15
        while True:
            assert self.gateway.running, self.gateway.tail()
            ready = self.run(http_status(self.port, "/readyz"))
            stand = (ready, self.viewers(), self.open_fds())
            # One for the connection of the probe that looks.
            if stand[0] == 200 and stand[1] == 0 and stand[2] <= self.fds + 2:
                break
            assert time.monotonic() < end, f"(ready, viewers, fds) is {stand}, was (200, 0, {self.fds})"
            time.sleep(0.1)
        for line in self.gateway.output.read_text(errors="replace").splitlines():
            assert len(line) < LONGEST_LINE, f"a log line of {len(line)}: {line[:500]}"
            assert json.loads(line)["level"] not in ("error", "critical"), line


@contextmanager
def open_rig() -> Iterator[Rig]:
    """Start everything on a Redis of its own; stop it on leaving."""
    redis = make_redis()
    redis.start()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fuzz-rig")
    thread.start()
    group = ProcessGroup()

    async def start() -> Rig:
        at = free_port()
        arguments = ("-m", "deploy.scripted_model", "--port", str(at), "--rate", "0", "--tokens", "8")
        model = await group.spawn("model", at, arguments, {})
        await model.wait_ready("/healthz")
        key = {"api_key_env": "TAILRACE_FUZZ_UPSTREAM_KEY"}
        models = [chat_model(model.port, default=True, **key), chat_model(model.port, CANARY, **key)]
        worker = await group.worker(redis.url, models, **_SETTINGS)
        gateway = await group.gateway(redis.url, models, **_SETTINGS)
        return Rig(group, redis, worker, gateway, loop)

    try:
        rig = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
        _seed(rig)
        rig.fds = rig.open_fds()
        yield rig
    finally:
        asyncio.run_coroutine_threadsafe(group.__aexit__(None, None, None), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        redis.close()


def _seed(rig: Rig) -> None:
    def ask(directives: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{CANARY} {ASKED} {directives}"}]

    quick, slow = ask("[[rate=0 tokens=20]]"), ask("[[endless rate=2]]")
    bearer = {"authorization": f"Bearer {ALICE}"}
    with httpx.Client(base_url=rig.gateway.url, headers=bearer, timeout=30) as client:
        for name, messages in ((DONE, quick), (LIVE, slow)):
            reply = client.post(
                f"/chats/{CHAT}/messages", json={"model": CANARY, "messages": messages, "message_id": name}
            )
            assert reply.status_code == 202, reply.text
        response = client.post("/v1/responses", json={"model": CANARY, "input": quick})
        completion = client.post("/v1/chat/completions", json={"model": CANARY, "messages": quick})
        assert response.status_code == completion.status_code == 200, response.text + completion.text
        rig.ids = {"response": response.json()["id"], "completion": completion.json()["id"]}
        stream = client.get(f"/chats/{CHAT}/messages/{DONE}/stream").text
        rig.ids["cursor"] = re.findall(r"^id: (\S+)$", stream, re.MULTILINE)[1]
        for use in ("feed", "socket"):
            rig.ids[use] = client.post("/tickets", json={"use": use}).json()["ticket"]
