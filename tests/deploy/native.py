"""A viewer of the native wire as small as it can be: raw frames, so that two reads can be compared byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Frame:
    """One event with an id, as it came over the wire."""

    raw: bytes
    id: str
    data: dict[str, Any]

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return self.data.get("type") == "end"


def connect(base_url: str, *, key: str | None = None) -> httpx.AsyncClient:
    """Return a client with deadlines shorter than the tests'."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=base_url, headers=headers, timeout=httpx.Timeout(20.0), trust_env=False)


async def start(client: httpx.AsyncClient, chat: str, text: str) -> str:
    """Start an answer in `chat` and return the path of its stream."""
    body = {"messages": [{"role": "user", "content": text}]}
    answer = await client.post(f"/chats/{chat}/messages", json=body)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told["chat_id"] == chat
    return f"/chats/{chat}/messages/{told['message_id']}/stream"


async def watch(client: httpx.AsyncClient, path: str, *, after: str | None = None) -> AsyncGenerator[Frame, None]:
    """Yield the stream's events until it ends; closing the generator cuts it."""
    headers = {"accept": "text/event-stream"} | ({"last-event-id": after} if after else {})
    async with client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, (answer.status_code, await answer.aread())
        assert answer.headers["content-type"].startswith("text/event-stream")
        rest = b""
        async for chunk in answer.aiter_raw():
            *blocks, rest = (rest + chunk).split(b"\n\n")
            for frame in filter(None, map(_parse, blocks)):
                yield frame


async def read(
    client: httpx.AsyncClient, path: str, *, after: str | None = None, frames: int | None = None, within_s: float = 40
) -> list[Frame]:
    """Read the stream to its end, or cut it after `frames` events."""
    got: list[Frame] = []
    async with asyncio.timeout(within_s), aclosing(watch(client, path, after=after)) as stream:
        async for frame in stream:
            got.append(frame)
            if len(got) == frames:
                break
    return got


def text_of(frames: list[Frame]) -> str:
    """Return the answer's text."""
    return "".join(frame.data["delta"] for frame in frames if frame.data.get("type") == "text-delta")


def _parse(block: bytes) -> Frame | None:
    # The reconnection time differs from one connection to the next by design; comments are heartbeats.
    lines = [line for line in block.split(b"\n") if line and not line.startswith((b"retry:", b":"))]
    fields = dict(line.decode().split(": ", 1) for line in lines)
    if "id" not in fields:
        return None
    return Frame(b"\n".join(lines), fields["id"], json.loads(fields["data"]))
