"""Owns the whole road for tests: a scripted model, a worker and two gateways as real processes, on the tests' Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.processes import ProcessGroup, ServerProcess, chat_model


@dataclass(frozen=True)
class Road:
    """The parts, and the address of each gateway."""

    group: ProcessGroup
    model: ServerProcess
    worker: ServerProcess
    gateways: tuple[ServerProcess, ServerProcess]

    @property
    def a(self) -> str:
        return self.gateways[0].url

    @property
    def b(self) -> str:
        return self.gateways[1].url

    def gateway(self, n: int) -> str:
        """The n-th gateway, in turn."""
        return self.gateways[n % 2].url

    async def start(self, chat_id: str, prompt: str, **more: Any) -> dict[str, Any]:
        """Start an answer on gateway A; return what it said."""
        body = {"messages": [{"role": "user", "content": prompt}], **more}
        async with httpx.AsyncClient(timeout=20) as client:
            reply = await client.post(f"{self.a}/chats/{chat_id}/messages", json=body)
            assert reply.status_code == 202, reply.text
            started: dict[str, Any] = reply.json()
            return started


@asynccontextmanager
async def open_road(redis_url: str, **env: Any) -> AsyncIterator[Road]:
    """Start everything and wait until it is ready; `env` are settings of worker and gateways."""
    async with ProcessGroup() as group:
        model = await group.model()
        models = [chat_model(model.port, default=True)]
        worker = await group.worker(redis_url, models, **env)
        first = await group.gateway(redis_url, models, **env)
        second = await group.gateway(redis_url, models, **env)
        yield Road(group, model, worker, (first, second))
