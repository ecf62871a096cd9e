"""The AI SDK's own clients, in a program that tests ask: what they run against, one chat, and how to look at it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from deploy.scripted_model.text import full_text
from shared.ids import quote
from tests.support.fault_proxy import FaultProxy
from tests.support.node import NodeProgram
from tests.support.processes import ProcessGroup, ServerProcess
from tests.support.redis import RedisServer
from tests.support.wait import wait_until

GRACE_S = 2.0
"""How long the end of an answer is given once more, on this stage."""


@dataclass(frozen=True)
class Stage:
    """A model, a worker, two gateways and a page to run clients in."""

    group: ProcessGroup
    redis: RedisServer
    models: list[dict[str, Any]]
    worker: ServerProcess
    gateways: list[ServerProcess]
    node: NodeProgram

    def record(self, chat_id: str) -> dict[str, str]:
        """Return the record of the chat's only message, as Redis has it."""
        with self.redis.admin() as client:
            (key,) = client.keys(f"tr:{{*{quote(chat_id)}}}:*:meta")
            return {name.decode(): value.decode() for name, value in client.hgetall(key).items()}

    def settled(self, chat_id: str) -> bool:
        """Whether the end was got, and the grace after that is over."""
        told = self.record(chat_id).get("told")
        return told is not None and time.time() * 1000 >= int(told) + GRACE_S * 1000


class Client:
    """A chat in the client program: a `Chat`, or with `hook` a component that uses `useChat` under StrictMode."""

    def __init__(self, stage: Stage, proxy: FaultProxy, version: int, chat_id: str, **how: Any) -> None:
        self._node = stage.node
        self._name = f"{chat_id}-{id(self)}"
        path = how.pop("path", "/api/chat")
        self._open = {"version": version, "api": proxy.url + path, "id": chat_id, **how}

    async def __aenter__(self) -> Client:
        await self.ask("open", **self._open)
        if self._open.get("hook"):
            await wait_until(lambda: self._status_is_not("mounting"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ask("close")

    async def ask(self, what: str, **fields: Any) -> Any:
        return await self._node.ask(what, **{"as": self._name, **fields})

    async def send(self, text: str, **more: Any) -> None:
        await self.ask("send", args=[{"text": text}, more])

    async def state(self) -> dict[str, Any]:
        state: dict[str, Any] = await self.ask("state")
        return state

    async def ready(self, finished: int = 1) -> dict[str, Any]:
        """Return the state once so many answers have come to an end, as far as the client knows, and none is coming."""
        state: dict[str, Any] = await self.ask("until", status="ready", finished=finished)
        return state

    async def said(self, letters: int) -> dict[str, Any]:
        """Return the state once the last answer has so much text."""
        state: dict[str, Any] = await self.ask("until", text=letters)
        return state

    async def _status_is_not(self, status: str) -> bool:
        return bool((await self.state())["status"] != status)


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def kinds(message: dict[str, Any]) -> list[str]:
    return [part["type"] for part in message["parts"]]


def oracle(*turns: str) -> str:
    """Return what the model says to the last of these, which are a user's and an assistant's in turn."""
    roles = ("user", "assistant")
    return full_text([{"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns)])


def user(text: str, message_id: str = "u1") -> dict[str, Any]:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


def assert_whole(state: dict[str, Any], expected: str, *, messages: int = 2) -> None:
    """One answer, once, whole, and all its parts closed."""
    assert (state["status"], len(state["messages"])) == ("ready", messages), state
    answer = state["messages"][-1]
    assert answer["role"] == "assistant"
    assert text_of(answer) == expected
    assert kinds(answer).count("text") == 1
    assert all_closed(answer)


def all_closed(answer: dict[str, Any]) -> bool:
    return all(part["state"] == "done" for part in answer["parts"] if part["type"] in ("text", "reasoning"))
