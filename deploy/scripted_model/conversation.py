"""The conversation as a caller sends it, and as the text function sees it: turns, seed, directive text and prefill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from deploy.scripted_model.directives import split_directives


class ContentPart(msgspec.Struct, frozen=True):
    """One part of a content list; parts without text (images, files) count as empty."""

    type: str = "text"
    text: str | None = None


class FunctionCall(msgspec.Struct, frozen=True):
    """Name and arguments of an earlier tool call."""

    name: str = ""
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    """An earlier tool call in an assistant message."""

    id: str = ""
    function: FunctionCall = FunctionCall()


class Message(msgspec.Struct, frozen=True):
    """One message in the form of Chat Completions; unknown fields are ignored."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool answered in the turn that is to be continued."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """What an answer depends on. `prompt` is the last user message without its directives."""

    seed: int
    prompt: str
    directives: Mapping[str, str]
    prefill: str | None
    tool_outputs: tuple[ToolOutput, ...]
    size: int  # characters of all messages, for the usage numbers

    @property
    def prompt_hash(self) -> str:
        """The seed in hexadecimal: the name of this prompt in the journal."""
        return f"{self.seed:016x}"


def read_conversation(messages: Sequence[Message]) -> Conversation:
    """Split `messages` into what seeds the answer and the prefill that it goes on from.

    The seed covers every message up to the last user message and the tool outputs after it, never a trailing assistant
    message: a continued answer must come from the same seed as the one that was cut.
    """
    turns, prefill = _part_prefill(messages)
    last_user = max((at for at, turn in enumerate(turns) if turn.role == "user"), default=len(turns) - 1)
    directives: Mapping[str, str] = {}
    prompt = ""
    seeded: list[tuple[str, str]] = []
    for at, turn in enumerate(turns[: last_user + 1]):
        text = turn.text
        if at == last_user:
            prompt, directives = split_directives(text)
            text = prompt
        seeded.append((_role(turn.role), text))
    outputs = _tool_outputs(turns, last_user + 1)
    seeded += [("tool", output.text) for output in outputs]
    return Conversation(
        seed=_seed(seeded),
        prompt=prompt,
        directives=directives,
        prefill=prefill,
        tool_outputs=outputs,
        size=sum(len(message.text) for message in messages),
    )


def convert_messages(messages: Sequence[Mapping[str, object]]) -> list[Message]:
    """Return `messages` typed; raises `msgspec.ValidationError` for a wrong shape."""
    return msgspec.convert(list(messages), list[Message])


def _part_prefill(messages: Sequence[Message]) -> tuple[Sequence[Message], str | None]:
    if messages and messages[-1].role == "assistant" and not messages[-1].tool_calls:
        return messages[:-1], messages[-1].text or None
    return messages, None


def _tool_outputs(messages: Sequence[Message], start: int) -> tuple[ToolOutput, ...]:
    names = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
    return tuple(
        ToolOutput(message.name or names.get(message.tool_call_id or "", "") or "tool", message.text)
        for message in messages[start:]
        if message.role == "tool"
    )


def _role(role: str) -> str:
    return "system" if role == "developer" else role  # the same message under its newer name


def _seed(turns: list[tuple[str, str]]) -> int:
    canonical = json.dumps(turns, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(canonical, digest_size=8).digest(), "big")
