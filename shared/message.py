"""Owns the folded message: what the entries of a log amount to, as stored, served and shown."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from shared.events import Failure, Usage, encode_json

MessageState = Literal["queued", "running", "done", "failed", "aborted"]
PartState = Literal["streaming", "done"]
ToolState = Literal["input-streaming", "input-available", "input-error", "output-available", "output-error"]


class _Part(Struct, tag_field="type", omit_defaults=True):
    """A part of a message; mutable while the fold builds it."""


class TextPart(_Part, tag="text"):
    """Text the model wrote. `id` names the part while deltas may still come; `refusal`: it will not answer, and why."""

    id: str
    text: str
    state: PartState
    refusal: bool = False


class ReasoningPart(_Part, tag="reasoning"):
    """Reasoning the model showed."""

    id: str
    text: str
    state: PartState


class ToolPart(_Part, tag="tool"):
    """A tool call: its input as it comes, then what the tool returned."""

    tool_call_id: str
    tool_name: str
    state: ToolState
    input_text: str = ""
    input: Any = None
    output: Any = None
    error_text: str | None = None
    provider_metadata: dict[str, Any] | None = None


class SourceUrlPart(_Part, tag="source-url"):
    """A cited web page."""

    source_id: str
    url: str
    title: str | None = None


class SourceDocumentPart(_Part, tag="source-document"):
    """A cited document."""

    source_id: str
    media_type: str
    title: str
    filename: str | None = None


class FilePart(_Part, tag="file"):
    """A generated file."""

    url: str
    media_type: str


class DataPart(_Part, tag="data"):
    """Application data; transient data is delivered but never part of the message."""

    name: str
    data: Any
    id: str | None = None


class StepPart(_Part, tag="step-start"):
    """The border between two model calls."""


Part = TextPart | ReasoningPart | ToolPart | SourceUrlPart | SourceDocumentPart | FilePart | DataPart | StepPart


class Message(Struct):
    """A message as its log tells it so far; equal logs give equal messages on every replica."""

    chat_id: str = ""
    message_id: str = ""
    model: str = ""
    created_at: int = 0
    state: MessageState = "queued"
    attempt: int = 0
    parts: list[Part] = []
    metadata: dict[str, Any] = {}
    finish_reason: str | None = None
    usage: Usage | None = None
    error: Failure | None = None

    @property
    def text(self) -> str:
        """All text parts joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """Return the message as one line of JSON."""
    return encode_json(message)


def decode_message(raw: bytes) -> Message:
    """Read what `encode_message` wrote; raise `msgspec.ValidationError` otherwise."""
    return _decoder.decode(raw)
