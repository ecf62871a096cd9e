"""Directives: how a caller asks for a pace, a form or a fault.

Written in the last user message as `[[rate=0 fault=reset@20]]`, so that every client can send them, or in the body as
`"scripted": {"rate": 0, "fault": "reset@20"}`, which wins. A bracket that holds anything else than known directives is
ordinary text; a known directive with a bad value is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from deploy.scripted_model.faults import NO_FAULTS, Faults, parse_faults
from deploy.scripted_model.tokens import MAX_TOKENS

_BRACKET = re.compile(r"\[\[([^\[\]]{1,500})\]\]")


class DirectiveError(ValueError):
    """Raised when a directive has a name or a value that cannot be used; the message is meant for the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """Everything one call asks for; None = the server's or the prompt's own choice."""

    tokens: int | None = None  # length of the text
    endless: bool = False  # as many tokens as there may ever be
    rate: float | None = None  # tokens per second, 0 = as fast as possible
    first_token_ms: float | None = None  # delay of the first token after the headers
    headers_ms: float = 0.0  # delay of the headers
    chunk: int = 1  # tokens per delta
    reasoning: int | None = None  # 0 = none, 1 = some, more = as many tokens
    reasoning_field: str = "reasoning_content"
    markdown: bool | None = None
    tool: int = 0  # so many tool calls, if the request offers tools
    status: int | None = None  # answer with this HTTP status instead
    retry_after: float | None = None  # seconds, sent with `status`
    error_body: str = "openai"  # form of the body sent with `status`: openai, detail or text
    error_code: str | None = None  # in that body, in place of the usual one
    times: int | None = None  # only the first so many calls of this key get `status`
    faults: Faults = field(default=NO_FAULTS)
    fault_times: int | None = None  # only the first so many calls of this key get `faults`
    reject_prefill: bool = False
    vary: bool = False  # each call of this key says something else: its variant is its number
    variant: int = 0  # which of the prompt's texts, 0 = the one that is given without these two
    key: str | None = None  # whose calls are counted together; otherwise the prompt's


Value: TypeAlias = int | float | bool | str | Faults | None


def split_directives(text: str) -> tuple[str, dict[str, str]]:
    """Return `text` without its directive brackets, and the raw directives, later ones winning."""
    found: dict[str, str] = {}

    def take(match: re.Match[str]) -> str:
        pairs = [word.partition("=") for word in match.group(1).split()]
        if not pairs or not all(equals and name in _PARSERS for name, equals, _ in pairs):
            return match.group(0)
        found.update((name, value) for name, _, value in pairs)
        return ""

    rest = _BRACKET.sub(take, text)
    return (rest.strip() if found else rest), found


def parse_directives(prompt: Mapping[str, str], body: Mapping[str, object] | None = None) -> Directives:
    """Return the typed directives of the prompt, overruled by those of the body; raises `DirectiveError`."""
    values: dict[str, Value] = {}
    for name, raw in {**prompt, **{name: _as_text(value) for name, value in (body or {}).items()}}.items():
        if name not in _PARSERS:
            raise DirectiveError(f"unknown directive {name!r}")
        attribute, parse = _PARSERS[name]
        try:
            values[attribute] = parse(raw)
        except ValueError as error:
            raise DirectiveError(f"directive {name}={raw[:40]!r}: {error}") from None
    return Directives(**values)  # type: ignore[arg-type]  # the table pairs each attribute with a parser of its type


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value)


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        number = int(raw)
        if not low <= number <= high:
            raise ValueError(f"must lie between {low} and {high}")
        return number

    return parse


def _number(high: float) -> Callable[[str], float]:
    def parse(raw: str) -> float:
        number = float(raw)
        if not 0 <= number <= high:  # also refuses nan
            raise ValueError(f"must lie between 0 and {high:g}")
        return number

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return raw

    return parse


def _switch(raw: str) -> bool:
    return _one_of("0", "1")(raw) == "1"


def _rejects(raw: str) -> bool:
    return _one_of("accept", "reject")(raw) == "reject"


_HOUR_MS = 3_600_000.0
_PARSERS: dict[str, tuple[str, Callable[[str], Value]]] = {
    "tokens": ("tokens", _integer(0, MAX_TOKENS)),
    "endless": ("endless", _switch),
    "rate": ("rate", _number(1e6)),
    "first_token_ms": ("first_token_ms", _number(_HOUR_MS)),
    "headers_ms": ("headers_ms", _number(_HOUR_MS)),
    "chunk": ("chunk", _integer(1, 100_000)),
    "reasoning": ("reasoning", _integer(0, MAX_TOKENS)),
    "reasoning_field": ("reasoning_field", _one_of("reasoning_content", "reasoning", "reasoning_details")),
    "markdown": ("markdown", _switch),
    "tool": ("tool", _integer(0, 8)),
    "status": ("status", _integer(300, 599)),
    "retry_after": ("retry_after", _number(86_400)),
    "error_code": ("error_code", str),
    "error_body": ("error_body", _one_of("openai", "detail", "text")),
    "times": ("times", _integer(0, MAX_TOKENS)),
    "fault": ("faults", parse_faults),
    "fault_times": ("fault_times", _integer(0, MAX_TOKENS)),
    "prefill": ("reject_prefill", _rejects),
    "vary": ("vary", _switch),
    "variant": ("variant", _integer(0, MAX_TOKENS)),
    "key": ("key", str),
}
NAMES = frozenset(_PARSERS)
