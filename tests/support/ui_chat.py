"""Owns chats of the AI SDK's wire for tests that write the log themselves: no worker, no model, no client library."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from gateway.access.principal import LOCAL
from shared import events as ev
from shared.events import encode_event
from shared.fold import fold
from shared.ids import MessageRef
from shared.link import Link
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Ending
from shared.message import encode_message
from tests.support.log import run_out
from tests.support.wait import wait_until
from tests.support.writer import LogWriter

_BLOCK = re.compile(r"(?:id: (?P<id>[^\n]*)\n)?data: (?P<data>[^\n]*)\n\n")
TEXT: list[ev.Event] = [ev.Start("m"), ev.StartStep(), ev.TextStart("t0"), *(ev.TextDelta("t0", w) for w in "abc")]
CLOSED: list[ev.Event] = [ev.TextEnd("t0"), ev.FinishStep(), ev.Finish("stop")]
VOID: list[ev.Event] = [ev.Start("m"), ev.StartStep(), ev.TextStart("t0"), ev.TextDelta("t0", "Void")]


@dataclass(frozen=True)
class Received:
    """One SSE event: its cursor, its data as it came, and as a chunk (None for `[DONE]`)."""

    id: str | None
    data: str

    @property
    def chunk(self) -> dict[str, Any] | None:
        return None if self.data == "[DONE]" else msgspec.json.decode(self.data)


def received(body: str) -> list[Received]:
    """Return the events of a body, or of as much of it as came; the connection's own lines are left out."""
    lines = "\n".join(line for line in body.split("\n") if not line.startswith((":", "retry:")))
    return [Received(match["id"], match["data"]) for match in _BLOCK.finditer(lines)]


def kinds(events: Sequence[Received]) -> list[str]:
    """Return the types of chunks, `[DONE]` included."""
    return [event.data if event.chunk is None else event.chunk["type"] for event in events]


def user(text: str = "Hi", message_id: str = "u1") -> dict[str, Any]:
    """Return a user's `UIMessage`."""
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


async def read(client: httpx.AsyncClient, method: str, url: str, **how: Any) -> tuple[httpx.Response, list[Received]]:
    """Return a stream's answer, its body read to the end, be that clean or broken."""
    text = ""
    async with client.stream(method, url, **how) as response:
        try:
            async for piece in response.aiter_text():
                text += piece
        except httpx.RemoteProtocolError:
            text += "\nbroken"
    return response, received(text)


class UiChat:
    """A chat whose answers are written here."""

    def __init__(self, client: httpx.AsyncClient, log: Log, link: Link, chat_id: str = "c") -> None:
        self.client = client
        self.log = log
        self.chat_id = chat_id
        self.link = link
        self._posting: asyncio.Task[tuple[httpx.Response, list[Received]]] | None = None
        self._writer: LogWriter | None = None
        self._attempts = 0

    @property
    def url(self) -> str:
        return f"/api/chat/{self.chat_id}"

    @property
    def writer(self) -> LogWriter:
        """The owner of the message in flight."""
        assert self._writer is not None
        return self._writer

    async def post(self, **fields: Any) -> MessageRef:
        """Send a message, go on reading the answer, and claim it."""
        body = {"id": self.chat_id, "trigger": "submit-message", "messages": [user()], **fields}
        before = await self.log.active(LOCAL.scope, self.chat_id)
        self._posting = asyncio.create_task(read(self.client, "POST", "/api/chat", json=body))
        async with asyncio.timeout(10):
            while await self.log.active(LOCAL.scope, self.chat_id) in (None, before):
                if self._posting.done():
                    raise AssertionError(self._posting.result())
                await asyncio.sleep(0.005)
        return await self.adopt()

    async def adopt(self) -> MessageRef:
        """Claim the message in flight, whoever sent it."""
        ref = LOCAL.ref(self.chat_id, str(await self.log.active(LOCAL.scope, self.chat_id)))
        self._writer, self._attempts = LogWriter(self.log, ref), 0
        await self.claim()
        return ref

    async def close(self) -> None:
        """Leave the answer that is still being read."""
        if self._posting is not None:
            self._posting.cancel()
            await asyncio.wait([self._posting])

    async def answered(self) -> tuple[httpx.Response, list[Received]]:
        """Return what the sender got, once it is over."""
        assert self._posting is not None
        async with asyncio.timeout(10):
            return await self._posting

    async def claim(self) -> None:
        """Take the message, as its first worker or as the next one after the lease ran out."""
        if self._attempts:
            await run_out(self.link, self.writer.ref)
        await self.writer.claim(self._attempts)
        self._attempts += 1

    async def write(self, *events: ev.Event) -> None:
        await self.writer.append(*map(encode_event, events))

    async def restart(self) -> None:
        """Have another worker begin anew."""
        await self.claim()
        await self.write(ev.Reset(1, "restart"))

    async def end(self, state: Any = "done") -> None:
        entries = await self.log.read_all(self.writer.ref)
        final = encode_message(fold(entry.event for entry in entries))
        end = encode_event(ev.End(state, 1))
        reply = await self.log.finish(self.writer.own, self.writer.seq + 1, Ending(state, final, end))
        assert reply.status == "ok", reply

    async def whole(self, **fields: Any) -> MessageRef:
        """Send a message and answer it."""
        ref = await self.post(**fields)
        await self.write(*TEXT, *CLOSED)
        await self.end()
        return ref

    async def get(self, query: str = "", **headers: str) -> tuple[httpx.Response, list[Received]]:
        """Read the chat's stream."""
        return await read(self.client, "GET", f"{self.url}/stream{query}", headers=headers)

    async def outlive_grace(self) -> None:
        """Wait until somebody has got the end, and make that long ago."""
        await wait_until(self.told)
        await self.link.call("HSET", log_keys(self.writer.ref).meta, "told", "1")

    async def told(self) -> bool:
        """Whether it is written down that somebody got the end."""
        meta = await self.log.meta(self.writer.ref)
        return meta is not None and meta.told
