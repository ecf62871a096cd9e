"""Owns what a Chat Completions API does not know of what we say unasked: it is learnt from the refusal, which costs
nothing, and not said to that model again while the worker lives.

Mistral refuses to be asked for usage (and reports it all the same) and knows a limit by its old name alone; so do older
releases of Azure's API and of some servers. It and Groq refuse thoughts in messages, which other models want back; they
are told under the name under which the server tells its own, since some (vLLM) read no other.
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
_THOUGHTS = "reasoning_content"
_OF_MESSAGES = (_THOUGHTS, "reasoning")
"""The same of messages' fields: two names of what was thought."""
_UNKNOWN = re.compile(r"not permitted|extra_forbidden|unrecognized|unsupported|unknown|unexpected|not supported", re.I)
_LONGEST = 10_000


class Relearnt(Exception):
    """The same request, said in another way, may be taken."""


class Dialect:
    """How one model's server wants to be spoken to. Shared by all calls of that model."""

    def __init__(self) -> None:
        self._unknown: set[str] = set()
        self._thoughts = _THOUGHTS

    def hear(self, thoughts: str) -> None:
        """Learn under which name the server tells what its model thinks; empty: it told nothing."""
        self._thoughts = thoughts or self._thoughts

    def say(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return `body` without what the server does not know, under an older name where there is one."""
        for name in self._unknown.intersection(body):
            value, old = body.pop(name), _OLD_NAMES[name]
            if old is not None:
                body.setdefault(old, value)
        body["messages"] = [self._message(message) for message in body["messages"]]
        return body

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        if _THOUGHTS in message and self._thoughts != _THOUGHTS:
            message = {self._thoughts if name == _THOUGHTS else name: value for name, value in message.items()}
        unknown = self._unknown.intersection(_OF_MESSAGES)
        return {name: value for name, value in message.items() if name not in unknown} if unknown else message

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


def _unknown_in(refusal: object, body: Mapping[str, Any]) -> set[str]:
    text = json.dumps(refusal, default=str)[:_LONGEST]
    if not _UNKNOWN.search(text):
        return set()
    said = {name for name in _OLD_NAMES if name in body}
    said |= {name for name in _OF_MESSAGES if name not in body and any(name in message for message in body["messages"])}
    return {name for name in said if re.search(rf"\b{name}\b", text)}
