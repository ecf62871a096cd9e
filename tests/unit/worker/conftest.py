"""What the worker's unit tests share: an upstream against a given URL, run to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from shared import events as ev
from shared.ids import MessageRef
from shared.jobs import GenerationRequest
from shared.models import Models, ModelSpec
from worker.settings import WorkerSettings
from worker.upstreams.base import AgentContext
from worker.upstreams.config import Upstreams


class Kept:
    """A sink that keeps what it takes, and always has room."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []

    @property
    def begun(self) -> bool:
        return not all(isinstance(event, ev.Upstream) for event in self.events)

    def take(self, events: Sequence[ev.Event]) -> bool:
        self.events += events
        return False

    async def room(self) -> None:
        raise AssertionError("nobody was told to wait")

    async def stored(self) -> None:
        raise AssertionError("no agent's tool here")


class Caller:
    """Calls upstreams as an attempt would and keeps what they said."""

    def __init__(self, *, direct_reads: bool) -> None:
        self.usage = ev.Usage()
        self._direct_reads = direct_reads
        self.kept = Kept()
        self.context: AgentContext
        self._open: list[Upstreams] = []

    def upstream(self, url: str, *, retry_s: float = 2.0, **spec: Any) -> Any:
        """Return the upstream of a model at `url`."""
        model = ModelSpec(name="m", base_url=url, api_key_env="SECRET_KEY", **spec)
        settings = WorkerSettings(retry_s=retry_s, retry_times=4, direct_reads=self._direct_reads)
        upstreams = Upstreams(Models([model]), settings, {"SECRET_KEY": "sk-test-0123456789"})
        self._open.append(upstreams)
        return upstreams.get("m")

    async def call(self, upstream: Any, messages: list[dict[str, Any]] | None = None, **params: Any) -> list[ev.Event]:
        """Run one generation to its end; `events` keeps what came before an error."""
        request = GenerationRequest("m", messages or [{"role": "user", "content": "hi"}], params)
        self.context = self.make_context()
        await upstream(request, self.context, self.kept)
        return self.events

    @property
    def events(self) -> list[ev.Event]:
        return self.kept.events

    def make_context(self, **more: Any) -> AgentContext:
        def report(usage: ev.Usage) -> None:
            self.usage += usage

        def no_client() -> Any:
            raise AssertionError("no HTTP client here")

        return AgentContext(MessageRef("t", "c", "m"), 1, lambda: None, no_client, report, **more)

    async def close(self) -> None:
        for upstreams in self._open:
            await upstreams.close()


@pytest.fixture(params=[True, False], ids=["direct", "pulled"])
async def caller(request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    """Calls with a body's bytes handed over where they arrive, and without."""
    caller = Caller(direct_reads=request.param)
    yield caller
    await caller.close()


def said(events: list[ev.Event]) -> str:
    """Return the text of bare deltas."""
    return "".join(event.delta for event in events if isinstance(event, ev.TextDelta))


def thought(events: list[ev.Event]) -> str:
    """Return the reasoning of bare deltas."""
    return "".join(event.delta for event in events if isinstance(event, ev.ReasoningDelta))
