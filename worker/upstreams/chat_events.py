"""Owns the meaning of Chat Completions chunks: data of one server-sent event in, events out. No I/O.

Servers differ in everything but the idea; what was seen in the wild is accepted here so that nobody behind it has to
know. The answer counts as finished only if a `finish_reason` came.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from shared import events as ev
from worker.upstreams.base import UpstreamError
from worker.upstreams.failures import from_event
from worker.upstreams.refusals import Refusal
from worker.upstreams.tool_calls import ToolCalls

DONE = b"[DONE]"


class _Delta(Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    tool_calls: Any = None


class _Choice(Struct):
    index: Any = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    """The whole of it: from servers that do not stream, and once more at the end from some that do."""
    finish_reason: Any = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None
    detail: Any = None
    message: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_REASONS: dict[str, ev.FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "tool_use": "tool-calls",
}
_INTERRUPTED = frozenset(
    ("abort", "aborted", "cancelled", "canceled", "network_error", "timeout", "insufficient_system_resource")
)
"""Reasons by which a server says that it gave up: vLLM shutting down, DeepSeek without resources, gateways between."""
_FAILED = frozenset(("error", "malformed_function_call"))
_NO_REASON = ("", "null")
"""How some servers (Ollama and SGLang in older releases, KoboldCpp) write in every chunk that there is none yet."""


class ChatEvents:
    """Reads the chunks of one answer. `finished` tells whether the model said why it ended."""

    def __init__(self) -> None:
        self.reason: ev.FinishReason | None = None
        self.usage: ev.Usage | None = None
        self.done = False
        self.thoughts = ""
        """Under which name the server tells what its model thinks, once it has."""
        self._failure = ""
        """Code of what a finish reason said that is none: the server gave up on the answer."""
        self._half = ""
        self._streams = False
        self._tools = ToolCalls()
        self._refusal = Refusal()

    @property
    def finished(self) -> bool:
        return self.reason is not None

    def feed(self, data: bytes) -> list[ev.Event]:
        """Return what one event's data says; raise `UpstreamError` if it is an error or not a chunk at all.

        What breaks after the model's last word breaks nothing, and nothing counts behind `[DONE]`.
        """
        if self.done or data.startswith(DONE):
            self.done = True
            return []
        try:
            try:
                chunk = _decode(data)
            except _UNREADABLE:
                chunk = self._decode_odd(data)
            if chunk.usage is not None:
                self.usage = read_usage(chunk.usage) or self.usage
            if chunk.error:
                self._raise_error(chunk)  # with or without choices: OpenRouter sends both
            if chunk.choices:
                return self._choice(chunk.choices[0])
            self._raise_error(chunk)
        except UpstreamError:
            if data.strip() and not self.finished:
                raise
        return []

    def close(self) -> list[ev.Event]:
        """Return the events of the end; raise `UpstreamError` if the model never said that it finished, or gave up."""
        if self.reason is None:
            raise UpstreamError("upstream_interrupted", retryable=True)
        if self._failure:
            raise UpstreamError(self._failure, retryable=True)
        calls = self._tools.close()
        # Google's servers say `stop` behind calls; who loops on `tool_calls` would take the empty text for the answer.
        reason = "tool-calls" if calls and self.reason == "stop" else self.reason
        return [*calls, ev.Finish(reason)]

    def _decode_odd(self, data: bytes) -> _Chunk:
        if b"\\u" in data:
            with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
                return _decode(self._mend(data))
        text = "The model's stream is not in the form expected."
        raise UpstreamError("upstream_error", text, retryable=True) from None

    def _mend(self, data: bytes) -> bytes:
        """Put surrogate pairs together that a server cut into two chunks; what stays half becomes U+FFFD."""
        body = json.loads(data)
        delta = body["choices"][0]["delta"] if isinstance(body, dict) and body.get("choices") else {}
        content = delta.get("content")
        if isinstance(content, str):
            content, self._half = self._half + content, ""
            if content and "\ud800" <= content[-1] <= "\udbff":
                content, self._half = content[:-1], content[-1]
            delta["content"] = content
        text = json.dumps(body, ensure_ascii=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()

    def _choice(self, choice: _Choice) -> list[ev.Event]:
        if choice.index not in (0, None):
            return []  # n > 1: a message has one answer
        if choice.finish_reason is not None and self.reason is None:
            self._finish(str(choice.finish_reason).lower())
        if choice.delta is not None:
            self._streams = True
            return self._read(choice.delta)
        return [] if choice.message is None or self._streams else self._read(choice.message)

    def _read(self, delta: _Delta) -> list[ev.Event]:
        content = delta.content
        out: list[ev.Event] = []
        if delta.reasoning_content or delta.reasoning or delta.reasoning_details:
            thought = _reasoning(delta)
            if thought:
                out.append(ev.ReasoningDelta("", thought))
                self.thoughts = "reasoning_content" if delta.reasoning_content else "reasoning"
        if content:
            if isinstance(content, list):
                _parts(content, out)
            elif isinstance(content, str):
                out.append(ev.TextDelta("", content))
        if delta.refusal and isinstance(delta.refusal, str):
            out += self._refusal.feed(delta.refusal)
        if delta.tool_calls:
            out += self._tools.feed(delta.tool_calls)
        return out

    def _finish(self, said: str) -> None:
        if said in _NO_REASON:
            return
        if said in _INTERRUPTED:
            self.reason, self._failure = "error", "upstream_interrupted"
        elif said in _FAILED:
            self.reason, self._failure = "error", "upstream_error"
        else:
            self.reason = _REASONS.get(said, "other")

    @staticmethod
    def _raise_error(chunk: _Chunk) -> None:
        if chunk.error is not None and chunk.error is not False:
            raise from_event(chunk.error)
        if chunk.object == "error" or (chunk.choices is None and chunk.detail is not None):
            raise from_event(chunk.message or chunk.detail)


def _reasoning(delta: _Delta) -> str:
    """Return the reasoning text. Servers send it under up to three names at once: it is the same text, told once."""
    for text in (delta.reasoning_content, delta.reasoning):
        if text and isinstance(text, str):
            return text
    if isinstance(delta.reasoning_details, list):
        return "".join(
            detail["text"]
            for detail in delta.reasoning_details
            if isinstance(detail, dict) and isinstance(detail.get("text"), str)
        )
    return ""


def _parts(content: list[Any], out: list[ev.Event]) -> None:
    """Read content that is a list of parts (Mistral): text, and thinking that is again a list of parts."""
    for part in content:
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("text"), str):
            out.append(ev.TextDelta("", part["text"]))
        elif isinstance(part.get("thinking"), list):
            inner: list[ev.Event] = []
            _parts(part["thinking"], inner)
            out += [ev.ReasoningDelta("", piece.delta) for piece in inner if isinstance(piece, ev.TextDelta)]


def read_usage(raw: object) -> ev.Usage | None:
    """Read a usage object of either API; None if it is none."""
    if not isinstance(raw, dict):
        return None
    taken = _count(raw, "prompt_tokens", "input_tokens")
    given = _count(raw, "completion_tokens", "output_tokens")
    total = _count(raw, "total_tokens") or taken + given
    if not total:
        return None
    inside, outside = _details(raw, "prompt", "input"), _details(raw, "completion", "output")
    return ev.Usage(taken, given, total, _count(outside, "reasoning_tokens"), _count(inside, "cached_tokens"))


def _details(raw: dict[str, Any], *kinds: str) -> dict[str, Any]:
    for kind in kinds:
        value = raw.get(f"{kind}_tokens_details")
        if isinstance(value, dict):
            return value
    return {}


def _count(raw: dict[str, Any], *names: str) -> int:
    for name in names:
        value = raw.get(name)
        if isinstance(value, int | float) and value > 0:
            return int(value)
    return 0
