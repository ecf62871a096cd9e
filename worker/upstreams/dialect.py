"""Owns what a Chat Completions API does not know of what we say unasked: it is learnt from the refusal, which costs
nothing, and not said to that model again while the worker lives.

Mistral refuses to be asked for usage (and reports it all the same) and knows a limit by its old name alone; so do older
releases of Azure's API and of some servers. It and Groq refuse thoughts in messages, which other models want back.
What a client has set beyond that is the client's to mend.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import openai

_OLD_NAMES: Mapping[str, str | None] = {"stream_options": None, "max_completion_tokens": "max_tokens"}
"""Parameters that some servers do not know, and what says the same there."""
_OF_MESSAGES = ("reasoning_content",)
"""The same of messages' fields; nothing else says it."""
_UNKNOWN = re.compile(r"not permitted|extra_forbidden|unrecognized|unsupported|unknown|unexpected|not supported", re.I)
_LONGEST = 10_000


class Relearnt(Exception):
    """The same request, said in another way, may be taken."""


class Dialect:
    """How one model's server wants to be spoken to. Shared by all calls of that model."""

    def __init__(self) -> None:
        self._unknown: set[str] = set()

    def say(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return `body` without what the server does not know, under an older name where there is one."""
        for name in self._unknown.intersection(body):
            value, old = body.pop(name), _OLD_NAMES[name]
            if old is not None:
                body.setdefault(old, value)
        if unknown := self._unknown.intersection(_OF_MESSAGES):
            body["messages"] = [_without(message, unknown) for message in body["messages"]]
        return body

    @contextmanager
    def heeding(self, body: Mapping[str, Any]) -> Generator[None]:
        """Raise `Relearnt` in place of a refusal of something in `body` that can be said in another way."""
        try:
            yield
        except openai.APIStatusError as error:
            if error.status_code in (400, 422) and (unknown := _unknown_in(error.body, body)):
                self._unknown |= unknown
                raise Relearnt from None
            raise


def _without(message: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in names}


def _unknown_in(refusal: object, body: Mapping[str, Any]) -> set[str]:
    text = json.dumps(refusal, default=str)[:_LONGEST]
    if not _UNKNOWN.search(text):
        return set()
    said = {name for name in _OLD_NAMES if name in body}
    said |= {name for name in _OF_MESSAGES if any(name in message for message in body["messages"])}
    return {name for name in said if re.search(rf"\b{name}\b", text)}
