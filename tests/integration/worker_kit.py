"""What the worker's integration tests share: a scripted model, workers as real processes, and messages for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.ids import MessageRef, new_message_id
from shared.jobs import GenerationRequest, encode_request
from shared.link import Link
from shared.log.keys import worker_channel
from shared.log.log import Log
from shared.log.types import Entry, Meta, Retention
from shared.message import Message, decode_message
from shared.redis import resolver
from tests.support.processes import ProcessGroup, ServerProcess, chat_model, http_get
from tests.support.wait import wait_until

LEASE_MS = 2000
START_MS = 15_000
"""How long after a start, which may take that long itself, a reaper looks at it first."""
FAST: dict[str, Any] = {"TAILRACE_LEASE_MS": LEASE_MS, "TAILRACE_REAP_S": 0.2}
"""A worker's shortest lease, and a reaper that does not wait long."""


@dataclass
class Kit:
    """One test's message traffic. `models` is what its workers are given."""

    redis_url: str
    link: Link
    log: Log
    dispatcher: Dispatcher
    group: ProcessGroup
    model: ServerProcess
    models: list[dict[str, Any]] = field(default_factory=list)
    workers: dict[str, ServerProcess] = field(default_factory=dict)
    names: Iterator[int] = field(default_factory=count)

    async def worker(self, **env: Any) -> ServerProcess:
        """Start a worker."""
        models = self.models or [chat_model(self.model.port)]
        name = f"w{next(self.names)}"
        self.workers[name] = worker = await self.group.worker(
            self.redis_url, models, **(FAST | {"TAILRACE_WORKER_ID": name} | env)
        )
        return worker

    async def owner(self, ref: MessageRef) -> ServerProcess:
        """Return the worker that has the message."""
        return self.workers[(await self.meta(ref)).worker.removeprefix(worker_channel(""))]

    async def send(self, prompt: str, model: str = "scripted", **params: Any) -> MessageRef:
        """Create a message in a chat of its own and queue it, as a gateway does."""
        ref = MessageRef("acme", f"chat-{new_message_id()}", new_message_id())
        request = GenerationRequest(model, messages(prompt), params)
        await self.log.watch(ref, START_MS)
        await self.log.create(
            ref,
            user="ann",
            body_hash="h",
            request=encode_request(request),
            first=ev.encode_event(ev.Created(ref.chat_id, ref.message_id, model, 1)),
        )
        await self.dispatcher.dispatch(ref)
        return ref

    async def meta(self, ref: MessageRef) -> Meta:
        meta = await self.log.meta(ref)
        assert meta is not None
        return meta

    async def events(self, ref: MessageRef) -> list[ev.Event]:
        return [entry.event for entry in await self.log.read_all(ref)]

    async def text_length(self, ref: MessageRef) -> int:
        """Return how many characters of text have been logged since the last reset."""
        length = 0
        for event in await self.events(ref):
            match event:
                case ev.TextDelta(delta=delta):
                    length += len(delta)
                case ev.Reset():
                    length = 0
        return length

    async def wait_text(self, ref: MessageRef, characters: int, within_s: float = 15.0) -> None:
        """Wait until at least so much text is in the log."""

        async def enough() -> bool:
            return await self.text_length(ref) >= characters

        await wait_until(enough, deadline_s=within_s, what=f"{characters} characters of text")

    async def wait_attempts(self, ref: MessageRef, attempts: int, within_s: float = 15.0) -> None:
        """Wait until the log tells of the so-many-th claim."""

        async def enough() -> bool:
            return sum(isinstance(event, ev.Attempt) for event in await self.events(ref)) >= attempts

        await wait_until(enough, deadline_s=within_s, what=f"claim {attempts}")

    async def ended(self, ref: MessageRef, within_s: float = 25.0) -> Message:
        """Wait for the end, check what every log must keep, and return the final message."""

        async def over() -> bool:
            meta = await self.log.meta(ref)  # none at all for a moment, where Redis lost everything
            return meta is not None and meta.terminal

        await wait_until(over, deadline_s=within_s, what="the message's end")
        check_log(await self.log.read_all(ref))
        final = await self.log.final(ref)
        assert final is not None
        return decode_message(final)

    async def calls(self, ref: MessageRef) -> list[dict[str, Any]]:
        """Return what the model's own request log says of this message."""
        _, body = await http_get(self.model.port, "/__log")
        return [call for call in json.loads(body)["entries"] if call["message"] == ref.message_id]

    async def metric(self, worker: ServerProcess, name: str, **labels: str) -> float:
        """Return a metric of a worker; 0 if it has none of that name and labels."""
        _, body = await http_get(worker.port, "/metrics")
        inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
        want = f"{name}{{{inner}}} " if labels else f"{name} "
        for line in body.decode().splitlines():
            if line.startswith(want):
                return float(line.removeprefix(want))
        return 0.0


@asynccontextmanager
async def open_kit(url: str, model: ServerProcess | None = None) -> AsyncIterator[Kit]:
    """Open a kit on the Redis at `url`, with this scripted model or one of its own; workers are the test's to start."""
    link = Link(resolver(url), name="kit")
    await link.open(wait_s=5)
    try:
        async with ProcessGroup() as group:
            yield Kit(url, link, Log(link, Retention()), Dispatcher(link), group, model or await group.model())
    finally:
        await link.close()


def messages(prompt: str) -> list[dict[str, Any]]:
    """Return a conversation of one prompt."""
    return [{"role": "user", "content": prompt}]


def check_log(entries: list[Entry]) -> None:
    """Assert what holds for every ended log: no gap, epochs that only grow, one end and nothing behind it."""
    assert [entry.cursor.seq for entry in entries] == list(range(1, len(entries) + 1))
    epochs = [entry.cursor.epoch for entry in entries]
    assert epochs == sorted(epochs)
    ends = [index for index, entry in enumerate(entries) if isinstance(entry.event, ev.End)]
    assert ends == [len(entries) - 1]


def attempts(events: list[ev.Event]) -> list[tuple[int, str, str]]:
    """Return the claims a log tells of: number, reason, mode."""
    return [(event.n, event.reason, event.mode) for event in events if isinstance(event, ev.Attempt)]


def end(events: list[ev.Event]) -> ev.End:
    """Return the terminal entry."""
    last = events[-1]
    assert isinstance(last, ev.End)
    return last
