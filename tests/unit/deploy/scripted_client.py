"""A plain HTTP client of the scripted model: it shows what is on the wire, where an SDK would tidy it up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

Json = dict[str, Any]
DEADLINE_S = 5.0


def ask(prompt: str, **body: Any) -> Json:
    """Return a streamed chat request for one user message."""
    return {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": prompt}], **body}


class ScriptedClient:
    """Requests against one scripted model."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def lines(self, path: str, body: Json | None = None) -> AsyncIterator[str]:
        """Yield the lines of a stream: POST with a body, GET without."""
        method = "GET" if body is None else "POST"
        async with self.http.stream(method, path, json=body) as response:
            if response.status_code != 200:
                await response.aread()
                raise AssertionError(f"{response.status_code}: {response.text}")
            async for line in response.aiter_lines():
                yield line

    async def spoiled(self, path: str, body: Json) -> tuple[list[str], httpx.TransportError | None]:
        """Return the lines of a stream that were not empty, and what broke it, if anything did."""
        seen: list[str] = []
        try:
            async for line in self.lines(path, body):
                seen += [line] if line else []
        except httpx.TransportError as error:
            return seen, error
        return seen, None

    async def chunks(self, body: Json) -> list[Json]:
        """Return the JSON chunks of a chat stream."""
        data = [line[6:] async for line in self.lines("/v1/chat/completions", body) if line.startswith("data: ")]
        return [json.loads(datum) for datum in data if datum != "[DONE]"]

    async def events(self, path: str, body: Json | None = None) -> list[Json]:
        """Return the events of a Responses stream."""
        return [json.loads(line[6:]) async for line in self.lines(path, body) if line.startswith("data: ")]

    async def say(self, prompt: str, **body: Any) -> str:
        """Return the text of a streamed chat answer."""
        return text_of(await self.chunks(ask(prompt, **body)))

    async def log(self, key: str) -> list[Json]:
        """Return the journal's entries of `key`."""
        entries: list[Json] = (await self.http.get("/__log")).json()["entries"]
        return [entry for entry in entries if entry["key"] == key]

    async def wait_log(self, key: str, condition: Callable[[list[Json]], bool]) -> list[Json]:
        """Return the entries of `key` as soon as they meet `condition`."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition(entries := await self.log(key)):  # noqa: ASYNC110 - the condition is a server's
                await asyncio.sleep(0.01)
        return entries

    async def ended(self, key: str) -> Json:
        """Return the one entry of `key` once it has ended."""
        (entry,) = await self.wait_log(key, lambda entries: len(entries) == 1 and not entries[0]["open"])
        return entry


@asynccontextmanager
async def connect(root: str) -> AsyncIterator[ScriptedClient]:
    """Yield a client of the scripted model at `root`."""
    async with httpx.AsyncClient(base_url=root, timeout=DEADLINE_S) as http:
        yield ScriptedClient(http)


def text_of(chunks: list[Json], field: str = "content") -> str:
    """Join one field of all deltas."""
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", ())]
    return "".join(delta.get(field) or "" for delta in deltas)
