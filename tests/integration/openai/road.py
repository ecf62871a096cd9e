"""Owns the road that clients are driven over: model, worker, two gateways, and a proxy that cuts connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.openai_kit import sdk
from tests.support.processes import ProcessGroup, ServerProcess, chat_model

LEASE_MS = 2000


@dataclass
class ClientRoad:
    """The parts. Connections through `proxy` meet the two gateways in turn; `models` are what a worker is given."""

    group: ProcessGroup
    redis_url: str
    models: list[dict[str, Any]]
    model: ServerProcess
    worker: ServerProcess
    gateways: tuple[ServerProcess, ServerProcess]
    proxy: FaultProxy

    def sdk(self, **more: Any) -> Any:
        """OpenAI's client of whatever gateway is next."""
        return sdk(self.proxy.url, **more)

    def direct(self, number: int, **more: Any) -> Any:
        """OpenAI's client of one gateway."""
        return sdk(self.gateways[number % 2].url, **more)

    async def next_worker(self) -> ServerProcess:
        """Start another worker, which the road has from now on; return the one before."""
        before, self.worker = self.worker, await start_worker(self.group, self.redis_url, self.models)
        return before

    async def third_gateway(self) -> ServerProcess:
        """Start a gateway that a test may kill; it drains within a second."""
        return await self.group.gateway(
            self.redis_url, self.models, TAILRACE_LEASE_MS=LEASE_MS, TAILRACE_DRAIN_DELAY_S=0, TAILRACE_DRAIN_S=1
        )

    async def calls(self, key: str) -> list[dict[str, Any]]:
        """Return the journal's entries of the calls that the model got under `[[key=...]]`."""
        async with httpx.AsyncClient() as client:
            reply = await client.get(f"{self.model.url}/__log")
        return [entry for entry in reply.json()["entries"] if entry["key"] == key]


async def start_worker(group: ProcessGroup, redis_url: str, models: list[dict[str, Any]]) -> ServerProcess:
    """Start a worker whose loss is noticed soon."""
    return await group.worker(redis_url, models, TAILRACE_LEASE_MS=LEASE_MS)


def models_of(port: int) -> list[dict[str, Any]]:
    """The scripted model, with a way to go on with a cut answer, without one, and over its other API."""
    return [
        chat_model(port, default=True),
        chat_model(port, "no-prefill", prefill=False),
        chat_model(port, "over-responses", kind="responses", prefill=False),
    ]


@asynccontextmanager
async def open_client_road(redis_url: str) -> AsyncIterator[ClientRoad]:
    """Start everything; it is ready on entry."""
    async with ProcessGroup() as group:
        model = await group.model()
        models = models_of(model.port)
        worker = await start_worker(group, redis_url, models)
        first = await group.gateway(redis_url, models, TAILRACE_LEASE_MS=LEASE_MS)
        second = await group.gateway(redis_url, models, TAILRACE_LEASE_MS=LEASE_MS)
        async with FaultProxy([("127.0.0.1", first.port), ("127.0.0.1", second.port)]) as proxy:
            yield ClientRoad(group, redis_url, models, model, worker, (first, second), proxy)


def cut(after: int, of: bytes = b"data: ", match: bytes = b"") -> Fault:
    """Reset a connection in the middle of its n-th event."""
    return Fault(match=match, cut_after=after, of=of)
