"""The script of one answer: its parts in order, and the delivery that deals them out in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, NamedTuple

import msgspec

from deploy.scripted_model.conversation import Conversation
from deploy.scripted_model.dice import Dice
from deploy.scripted_model.directives import Directives
from deploy.scripted_model.schema import make_value
from deploy.scripted_model.text import answer_tokens, continue_after, reasoning_tokens
from deploy.scripted_model.tokens import tokenise

Kind = Literal["reasoning", "text", "tool"]
_ARGUMENT_SALT = 0xA46


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the request offers."""

    name: str
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one kind. Tool parts have a name, a call id and an index among the calls."""

    kind: Kind
    tokens: Iterator[str]
    index: int = 0
    name: str = ""
    call_id: str = ""


class Piece(NamedTuple):
    """What one delta carries; a tuple, because there is one per token."""

    part: Part
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Request:
    """What of a request the script depends on, in neither wire's form."""

    conversation: Conversation
    directives: Directives
    tools: tuple[Tool, ...] = ()
    forced: bool = False  # the request insists on a call
    forced_name: str | None = None  # and on this function


def write_script(request: Request, default_tokens: int) -> list[Part]:
    """Return the parts of the answer: reasoning, then tool calls or text, computed as they are dealt out."""
    conversation, directives = request.conversation, request.directives
    whole = partial(answer_tokens, conversation, directives, default_tokens)
    calls = _chosen_tools(request)
    if conversation.prefill is not None:
        # The reasoning came before the text that is already there.
        return [Part("text", continue_after(conversation.prefill, whole))]
    parts = [Part("reasoning", reasoning_tokens(conversation, directives))]
    if not calls:
        return [*parts, Part("text", whole())]
    return parts + [_call_part(conversation, directives, tool, index) for index, tool in enumerate(calls)]


def _chosen_tools(request: Request) -> Sequence[Tool]:
    if not request.tools or request.conversation.tool_outputs:
        return ()  # after a tool has answered comes text, or a required call would be made for ever
    named = [tool for tool in request.tools if tool.name == request.forced_name]
    count = request.directives.tool or (1 if request.forced else 0)
    first = Dice(request.conversation.seed).roll(len(request.tools))
    offered = named or request.tools
    return [offered[(first + step) % len(offered)] for step in range(count)]


def _call_part(conversation: Conversation, directives: Directives, tool: Tool, index: int) -> Part:
    dice = Dice(conversation.seed ^ _ARGUMENT_SALT ^ index)
    value = make_value(tool.parameters, dice)
    arguments = dict(value) if isinstance(value, dict) else {}
    if directives.faults.huge_bytes:
        arguments["padding"] = "x" * directives.faults.huge_bytes
    text = msgspec.json.encode(arguments).decode()
    return Part("tool", iter(tokenise(text)), index, tool.name, f"call_{conversation.seed:016x}{index}")


class Delivery:
    """Deals out a script in pieces of `chunk` tokens, at most `limit` tokens in all.

    After the iteration `cut_short` tells whether the limit left something unsaid.
    """

    def __init__(self, parts: Sequence[Part], chunk: int, limit: int | None) -> None:
        self.parts = parts
        self.cut_short = False
        self._chunk = chunk
        self._left = limit

    def __iter__(self) -> Iterator[Piece]:
        for part in self.parts:
            while batch := list(islice(part.tokens, self._chunk)):
                if self._left is not None:
                    self.cut_short = len(batch) > self._left
                    batch = batch[: self._left]
                    self._left -= len(batch)
                if batch:
                    yield Piece(part, "".join(batch), len(batch))
                if self.cut_short:
                    return
