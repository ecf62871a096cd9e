"""Owns the Chat Completions wire: `chat.completion.chunk` events, then `data: [DONE]`.

    {"role":"assistant","content":""}, deltas of content | refusal | reasoning_content | tool_calls, what is cited as
    annotations, {} + finish_reason, with include_usage a chunk of no choices and the usage (null in all others), [DONE]

Nothing is repeated that clients would add up: one role, one id and one name a call. How a message ends:
done is the finish chunk; failed and stopped are an error chunk with a stable code, since a partial answer with a
finish reason would be taken for a whole one; begun anew: see `openai_common`. Neither error is followed by [DONE].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from gateway.protocols.base import LastBlock, Wire
from gateway.protocols.chat_object import Annotation, ChatOptions, chat_reason, chat_usage, cite
from gateway.protocols.openai_common import (
    RESTARTED,
    STOPPED,
    UNFINISHED,
    UNTOLD,
    arguments_text,
    error_type,
    failure_code,
    failure_status,
    read_options,
)
from shared import events as ev
from shared.events import Failure, encode_json
from shared.log.types import Entry

DONE = b"data: [DONE]\n\n"


def error_chunk(failure: Failure) -> bytes:
    """Return the chunk on which both SDKs raise."""
    kind = error_type(failure_status(failure))
    error = {"message": failure.message, "type": kind, "param": None, "code": failure_code(failure)}
    return b"data: " + encode_json({"error": error}) + b"\n\n"


class ChatCompletionsEncoder:
    """One message's chunks. Whatever does not change between them is encoded once."""

    def __init__(self) -> None:
        self._options = ChatOptions()
        self._base = self._head = self._tail = b""
        self._calls: dict[str, int] = {}
        self._with_input: set[str] = set()
        self._refusals: set[str] = set()
        self._cited: list[Annotation] = []
        self._spoke = False
        self._reason: str | None = None

    def encode(self, entry: Entry) -> Sequence[bytes]:
        event = entry.event
        match event:
            case ev.TextDelta(id=part_id, delta=text):
                name = b'{"refusal":' if part_id in self._refusals else b'{"content":'
                return self._delta(name + encode_json(text) + b"}")
            case ev.TextStart(id=part_id, refusal=True):
                self._refusals.add(part_id)
            case ev.SourceUrl(url=url, title=title):
                self._cited.append(cite(url, title))
            case ev.TextEnd(id=part_id):
                self._refusals.discard(part_id)
            case ev.ReasoningDelta(delta=text):
                return self._delta(b'{"reasoning_content":' + encode_json(text) + b"}")
            case ev.ToolInputStart() | ev.ToolInputDelta() | ev.ToolInputAvailable() | ev.ToolInputError():
                return self._tool(event)
            case ev.Created():
                return self._begin(event)
            case ev.Reset():
                return self._begin_anew()
            case ev.Finish(finish_reason=reason):
                self._reason = reason if isinstance(reason, str) else None
            case ev.End():
                return self._end(event)
            case _:
                pass
        return ()

    def _begin(self, created: ev.Created) -> Sequence[bytes]:
        self._options = read_options(created.options, ChatOptions)
        base = {
            "id": created.message_id,
            "object": "chat.completion.chunk",
            "created": created.created_at,
            "model": created.model,
        }
        self._base = b"data: " + encode_json(base)[:-1]
        self._head = self._base + b',"choices":[{"index":0,"delta":'
        usage = b',"usage":null' if self._options.include_usage else b""
        self._tail = b',"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        return (self._role(),)

    def _role(self) -> bytes:
        return self._head + b'{"role":"assistant","content":""}' + self._tail

    def _delta(self, delta: bytes) -> Sequence[bytes]:
        self._spoke = True
        return (self._head + delta + self._tail,)

    def _begin_anew(self) -> Sequence[bytes]:
        spoke, self._spoke = self._spoke, False
        self._calls.clear()
        self._with_input.clear()
        self._refusals.clear()
        self._cited.clear()
        self._reason = None
        return (LastBlock(error_chunk(RESTARTED)), self._role()) if spoke else ()

    def _tool(
        self, event: ev.ToolInputStart | ev.ToolInputDelta | ev.ToolInputAvailable | ev.ToolInputError
    ) -> Sequence[bytes]:
        out: list[bytes] = []
        call_id = event.tool_call_id
        if not isinstance(event, ev.ToolInputDelta) and call_id not in self._calls:
            if event.tool_name not in self._options.tools:
                return out
            index = self._calls[call_id] = len(self._calls)
            function = {"name": event.tool_name, "arguments": ""}
            call: dict[str, Any] = {"index": index, "id": call_id, "type": "function", "function": function}
            if isinstance(event, ev.ToolInputStart | ev.ToolInputAvailable) and event.provider_metadata is not UNSET:
                call["extra_content"] = event.provider_metadata
            out += self._delta(encode_json({"tool_calls": [call]}))
        match event:
            case ev.ToolInputDelta(input_text_delta=text) if call_id in self._calls:
                out += self._arguments(call_id, text)
            # Whole at once, from an agent: there were no pieces before.
            case ev.ToolInputAvailable(input=value) | ev.ToolInputError(input=value) if call_id not in self._with_input:
                out += self._arguments(call_id, arguments_text(value))
            case _:
                pass
        return out

    def _arguments(self, call_id: str, text: str) -> Sequence[bytes]:
        self._with_input.add(call_id)
        call = {"index": self._calls[call_id], "function": {"arguments": text}}
        return self._delta(encode_json({"tool_calls": [call]}))

    def _end(self, end: ev.End) -> Sequence[bytes]:
        if end.state == "aborted":
            return (error_chunk(STOPPED),)
        if end.state == "failed":
            return (error_chunk(end.error or UNTOLD),)
        if self._reason == "error":
            return (error_chunk(UNFINISHED),)
        reason = encode_json(chat_reason(self._reason, bool(self._calls)))
        finish = self._head + b"{}" + self._tail.replace(b'"finish_reason":null', b'"finish_reason":' + reason, 1)
        # All at once: clients that add deltas up cannot add to a list without indexes.
        cited = self._delta(b'{"annotations":' + encode_json(self._cited) + b"}") if self._cited else ()
        if not self._options.include_usage:
            return (*cited, finish, DONE)
        usage = self._base + b',"choices":[],"usage":' + encode_json(chat_usage(end.usage)) + b"}\n\n"
        return (*cited, finish, usage, DONE)


CHAT_COMPLETIONS = Wire(name="chat_completions", make_encoder=ChatCompletionsEncoder)
