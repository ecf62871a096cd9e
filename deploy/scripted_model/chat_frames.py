"""Chat Completions on the wire: the chunks of a stream and the whole object. Pure; no clock, no I/O.

What does not change between chunks is encoded once per stream, so a token costs one small encode and one join.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from deploy.scripted_model.faults import NO_FAULTS, Faults
from deploy.scripted_model.gathered import Gathered
from deploy.scripted_model.script import Part, Piece

_encode = msgspec.json.encode
_FINGERPRINT = "fp_scripted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatForm:
    """What all chunks of one answer share, and the forms its caller asked for."""

    completion_id: str
    created: int
    model: str
    prompt_tokens: int
    include_usage: bool = False
    reasoning_field: str = "reasoning_content"
    faults: Faults = NO_FAULTS


class ChatFrames:
    """Encodes one answer as chat.completion.chunk events."""

    def __init__(self, form: ChatForm) -> None:
        self._form = form
        self._gathered = Gathered()
        shared = {"id": form.completion_id, "object": "chat.completion.chunk", "created": form.created}
        shared |= {"model": form.model, "system_fingerprint": _FINGERPRINT}
        self._base = b"data: " + _encode(shared)[:-1]
        self._head = self._base + b',"choices":[{"index":0,"delta":'
        self._usage_null = b',"usage":null}\n\n' if form.include_usage else b"}\n\n"
        self._tail = b',"logprobs":null,"finish_reason":null}]' + self._usage_null
        role = b'"role":"assistant",' if form.faults.has("role_repeat") else b""
        self._text_head = self._head + b"{" + role + b'"content":'
        self._text_tail = b"}" + self._tail

    def opening(self) -> bytes:
        """Return the role chunk, after an empty one if that form was asked for."""
        faults = self._form.faults
        frames = b""
        if faults.has("empty_choices"):
            odd = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []}
            frames = b"data: " + _encode(odd) + b"\n\n"
        if faults.has("no_role"):
            return frames
        return frames + self._head + b'{"role":"assistant","content":""}' + self._tail

    def piece(self, piece: Piece) -> bytes:
        """Return the chunks of one piece."""
        first = self._gathered.add(piece)
        match piece.part.kind:
            case "text":
                return self._text_head + _encode(piece.text) + self._text_tail
            case "reasoning":
                return self._head + _encode(self._reasoning(piece.text)) + self._tail
            case "tool":
                return self._tool(piece, first)

    def closing(self, cut_short: bool) -> bytes:
        """Return the finish chunk, the usage chunk and the end marker."""
        faults = self._form.faults
        frames = b""
        usage = _encode(usage_of(self._gathered, self._form.prompt_tokens))
        if not faults.has("no_finish"):
            reason = _encode(finish_reason(self._gathered, cut_short))
            frames = self._head + b'{},"logprobs":null,"finish_reason":' + reason + b"}]"
            frames += b',"usage":' + usage + b"}\n\n" if faults.has("usage_on_final") else self._usage_null
        if self._form.include_usage and not faults.has("usage_on_final"):
            frames += self._base + b',"choices":[],"usage":' + usage + b"}\n\n"
        return frames if faults.has("no_done") else frames + b"data: [DONE]\n\n"

    def _reasoning(self, text: str) -> dict[str, object]:
        field = self._form.reasoning_field
        if field == "reasoning_details":
            # Seen from OpenRouter: both forms of the same words in one delta.
            return {"reasoning": text, field: [{"type": "reasoning.text", "text": text}]}
        return {field: text}

    def _tool(self, piece: Piece, first: bool) -> bytes:
        frames = b""
        opening = {"id": piece.part.call_id, "type": "function"}
        if first:
            frames = self._call_delta(piece.part, opening, {"name": piece.part.name, "arguments": ""})
        function: dict[str, object] = {"arguments": piece.text}
        if self._form.faults.has("tool_repeat"):
            return frames + self._call_delta(piece.part, opening, {"name": piece.part.name, **function})
        return frames + self._call_delta(piece.part, {}, function)

    def _call_delta(self, part: Part, opening: dict[str, str], function: dict[str, object]) -> bytes:
        call = {"index": part.index, **opening, "function": function}
        return self._head + _encode({"tool_calls": [call]}) + self._tail


class WholeChat:
    """Gathers one answer and encodes it as one chat.completion object."""

    def __init__(self, form: ChatForm) -> None:
        self._form = form
        self._gathered = Gathered()

    def opening(self) -> bytes:
        """Return nothing: a whole answer has no opening."""
        return b""

    def piece(self, piece: Piece) -> bytes:
        """Keep the piece."""
        self._gathered.add(piece)
        return b""

    def closing(self, cut_short: bool) -> bytes:
        """Return the object."""
        finish = finish_reason(self._gathered, cut_short)
        choice = {"index": 0, "message": self._message(), "logprobs": None, "finish_reason": finish}
        return _encode(
            {
                "id": self._form.completion_id,
                "object": "chat.completion",
                "created": self._form.created,
                "model": self._form.model,
                "system_fingerprint": _FINGERPRINT,
                "choices": [choice],
                "usage": usage_of(self._gathered, self._form.prompt_tokens),
            }
        )

    def _message(self) -> dict[str, object]:
        message: dict[str, object] = {"role": "assistant", "content": None, "refusal": None}
        calls = []
        for part, text in self._gathered.parts():
            if part.kind == "text":
                message["content"] = text
            elif part.kind == "reasoning":
                message[self._form.reasoning_field] = text
            else:
                function = {"name": part.name, "arguments": text}
                calls.append({"id": part.call_id, "type": "function", "function": function})
        if calls:
            message["tool_calls"] = calls
        elif message["content"] is None:
            message["content"] = ""
        return message


def finish_reason(gathered: Gathered, cut_short: bool) -> str:
    """Return why the answer ended, in the words of Chat Completions."""
    if cut_short:
        return "length"
    return "tool_calls" if gathered.called_tools else "stop"


def usage_of(gathered: Gathered, prompt_tokens: int) -> dict[str, object]:
    """Return the usage object of what was said."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": gathered.tokens,
        "total_tokens": prompt_tokens + gathered.tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": gathered.reasoning_tokens},
    }
