"""Owns what the tests of the OpenAI routes have in common: the SDK as a client, a worker's side, collected events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai

from gateway.access.principal import LOCAL, Principal
from shared import events as ev
from shared.events import encode_event
from shared.fold import fold
from shared.log.ending import make_ending
from shared.log.log import Log
from shared.log.types import Backup, Entry
from shared.message import Message
from tests.support.writer import LEASE_MS, LogWriter

ASK = "Say something."
MESSAGES: Any = [{"role": "user", "content": ASK}]


@asynccontextmanager
async def sdk(url: str, **more: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """Return OpenAI's client of a gateway: its own defaults, retries included."""
    settings: dict[str, Any] = {"api_key": "any", "timeout": 20.0, **more}
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", **settings) as client:
        yield client


class Worker:
    """A worker's side of one message: claims it, says things, ends it; on the real log, by hand."""

    def __init__(self, log: Log, name: str, who: Principal = LOCAL) -> None:
        self.ref = who.ref(name, name)
        self._log = log
        self._writer = LogWriter(log, self.ref)
        self._attempts = 0

    async def claim(self, mode: ev.AttemptMode = "start") -> Worker:
        """Become the owner; a second time after the lease was given back."""
        if self._attempts:
            await self._log.release(self._writer.own)
            self._writer = LogWriter(self._log, self.ref)
        meta = await self._log.meta(self.ref)
        assert meta is not None
        await self._writer.claim(meta.attempts)
        self._attempts += 1
        return self

    async def write(self, *events: ev.Event) -> None:
        await self._writer.append(*map(encode_event, events))

    async def say(self, *words: str) -> None:
        """Say words in a text part that stays open."""
        await self.write(ev.Start(self.ref.message_id), ev.StartStep(), ev.TextStart("t0"))
        await self.write(*(ev.TextDelta("t0", word) for word in words))

    async def begin_anew(self) -> None:
        """Lose the message to another worker, which starts over."""
        await self.claim("restart")
        await self.write(ev.Reset(1, "worker_lost"))

    async def end(self, state: Any = "done", error: ev.Failure | None = None) -> None:
        """Close what is open and end."""
        closing: list[ev.ContentEvent] = [ev.TextEnd("t0"), ev.FinishStep()]
        if state == "done":
            closing.append(ev.Finish("stop"))
        events = [entry.event for entry in await self._log.read_all(self.ref)]
        last = ev.End(state, 1, ev.Usage(1, 2, 3), error)
        reply = await self._log.finish(
            self._writer.own, self._writer.seq + 1, make_ending(Message(), events, closing, last)
        )
        assert reply.status == "ok", reply

    async def restore(self, backup: Backup, entries: list[Entry]) -> None:
        """Write the message back after Redis lost it."""
        reply = await self._log.restore(self._writer.own, backup, entries, lease_ms=LEASE_MS, channel="tr:worker:test")
        assert reply.status == "ok", reply

    async def message(self) -> Message:
        """Return what the log amounts to."""
        return fold(entry.event for entry in await self._log.read_all(self.ref))


class Collector:
    """Takes events off a stream of the SDK in the background, so that a test can wait for one."""

    def __init__(self, stream: Any) -> None:
        self.events: list[Any] = []
        self.error: Exception | None = None
        self._changed = asyncio.Event()
        self._stream = stream
        self._task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        try:
            async for event in self._stream:
                self.events.append(event)
                self._changed.set()
        except (openai.OpenAIError, httpx.HTTPError) as error:
            self.error = error
        finally:
            self._changed.set()

    async def until(self, count: int, deadline_s: float = 10.0) -> None:
        """Wait until so many events have come."""
        async with asyncio.timeout(deadline_s):
            while len(self.events) < count:
                assert not self._task.done(), (self.events, self.error)
                self._changed.clear()
                await self._changed.wait()

    async def over(self, deadline_s: float = 10.0) -> Collector:
        """Wait until the stream is over, one way or the other."""
        async with asyncio.timeout(deadline_s):
            await self._task
        return self

    async def leave(self) -> None:
        """Close the connection."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._stream.close()

    @property
    def text(self) -> str:
        """The text so far, on either wire."""
        return text_of(self.events)


def text_of(events: list[Any]) -> str:
    """Return the text that events of either wire amount to for a client that just adds deltas up."""
    out = []
    for event in events:
        if getattr(event, "type", "") == "response.output_text.delta":
            out.append(event.delta)
        out += [choice.delta.content or "" for choice in getattr(event, "choices", None) or ()]
    return "".join(out)


def kinds(events: list[Any]) -> list[str]:
    """Return the types of Responses events, without their common beginning."""
    return [str(event.type).removeprefix("response.") for event in events]
