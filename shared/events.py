"""Owns the event vocabulary: what one log entry may say, and its JSON form.

Content events are the subset of the AI SDK's UI message stream v1 that every client from ai 5 to 7
accepts, under its own names. Control entries (`created`, `attempt`, `reset`, `upstream`, `usage`, `end`) are ours.
An entry of an unknown type (written by a newer release) decodes to `Unknown`: it is passed on
verbatim and ignored by the fold.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

FinishReason = Literal["stop", "length", "content-filter", "tool-calls", "error", "other"]
TerminalState = Literal["done", "failed", "aborted"]
AttemptReason = Literal["first", "worker_lost", "drain"]
AttemptMode = Literal["start", "reattach", "continue", "restart"]


class _Content(Struct, frozen=True, rename="camel", tag_field="type", omit_defaults=True):
    """A content event; its JSON names are the AI SDK's."""


class Start(_Content, frozen=True, tag="start"):
    """The answer begins."""

    message_id: str
    message_metadata: dict[str, Any] | UnsetType = UNSET


class StartStep(_Content, frozen=True, tag="start-step"):
    """A model call of an agent loop begins."""


class FinishStep(_Content, frozen=True, tag="finish-step"):
    """That model call is over."""


class TextStart(_Content, frozen=True, tag="text-start"):
    """A text part opens. `refusal`: its text says why the model will not answer."""

    id: str
    refusal: bool = False


class TextDelta(_Content, frozen=True, tag="text-delta"):
    """Text for an open text part."""

    id: str
    delta: str


class TextEnd(_Content, frozen=True, tag="text-end"):
    """A text part closes."""

    id: str


class ReasoningStart(_Content, frozen=True, tag="reasoning-start"):
    """A reasoning part opens."""

    id: str


class ReasoningDelta(_Content, frozen=True, tag="reasoning-delta"):
    """Text for an open reasoning part."""

    id: str
    delta: str


class ReasoningEnd(_Content, frozen=True, tag="reasoning-end"):
    """A reasoning part closes."""

    id: str


class ToolInputStart(_Content, frozen=True, tag="tool-input-start"):
    """The model starts to write a tool call's input. `provider_metadata`: what it wants back with the call, by whom."""

    tool_call_id: str
    tool_name: str
    provider_metadata: dict[str, Any] | UnsetType = UNSET


class ToolInputDelta(_Content, frozen=True, tag="tool-input-delta"):
    """A piece of that input, as JSON text."""

    tool_call_id: str
    input_text_delta: str


class ToolInputAvailable(_Content, frozen=True, tag="tool-input-available"):
    """The whole input of a tool call."""

    tool_call_id: str
    tool_name: str
    input: Any
    provider_metadata: dict[str, Any] | UnsetType = UNSET


class ToolInputError(_Content, frozen=True, tag="tool-input-error"):
    """The model's input was not valid JSON; `input` is the text as it came."""

    tool_call_id: str
    tool_name: str
    input: Any
    error_text: str


class ToolOutputAvailable(_Content, frozen=True, tag="tool-output-available"):
    """What a tool returned."""

    tool_call_id: str
    output: Any


class ToolOutputError(_Content, frozen=True, tag="tool-output-error"):
    """A tool failed."""

    tool_call_id: str
    error_text: str


class SourceUrl(_Content, frozen=True, tag="source-url"):
    """A cited web page."""

    source_id: str
    url: str
    title: str | UnsetType = UNSET


class SourceDocument(_Content, frozen=True, tag="source-document"):
    """A cited document."""

    source_id: str
    media_type: str
    title: str
    filename: str | UnsetType = UNSET


class File(_Content, frozen=True, tag="file"):
    """A generated file, by URL (data URLs included)."""

    url: str
    media_type: str


class MessageMetadata(_Content, frozen=True, tag="message-metadata"):
    """Metadata to merge into the message."""

    message_metadata: dict[str, Any]


class Finish(_Content, frozen=True, tag="finish"):
    """The model finished by itself."""

    finish_reason: FinishReason | UnsetType = UNSET
    message_metadata: dict[str, Any] | UnsetType = UNSET


class Abort(_Content, frozen=True, tag="abort"):
    """The answer was stopped on request; what came before is kept."""


class Error(_Content, frozen=True, tag="error"):
    """The answer failed; what came before is kept. The code stands in the `end` entry."""

    error_text: str


class Data(Struct, frozen=True):
    """Application data, type `data-<name>`: the same name and id replaces the earlier part."""

    name: str
    data: Any
    id: str | None = None
    transient: bool = False


class Usage(Struct, frozen=True):
    """Tokens, summed over a message's attempts."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    incomplete: bool | UnsetType = UNSET
    """True where an attempt ended without a report, so that the sum lacks what it cost."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.total_tokens + other.total_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why a message failed: a code of `shared.errors.GENERATION_CODES` and a sentence for people.

    upstream_code: the model's own code, where it is one of the few that clients of its API act upon.
    """

    code: str
    message: str
    upstream_code: str | None = None


class _Control(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """A control entry."""


class Created(_Control, frozen=True, tag="created"):
    """Entry 1: the message exists. `created_at` is Unix time in seconds, by the gateway's clock."""

    chat_id: str
    message_id: str
    model: str
    created_at: int
    wire: str = "native"
    options: dict[str, Any] = {}


class Attempt(_Control, frozen=True, tag="attempt"):
    """A worker has claimed the message for its `n`-th attempt (from 1)."""

    n: int
    reason: AttemptReason
    mode: AttemptMode


class Reset(_Control, frozen=True, tag="reset"):
    """Discard all content: an earlier attempt's text is void. No reader looks at `keep_seq`."""

    keep_seq: int
    reason: str


class Upstream(_Control, frozen=True, tag="upstream"):
    """The upstream's own name for the answer being written: a later attempt may attach to it again. Not for viewers."""

    id: str


class UsageSoFar(_Control, frozen=True, tag="usage"):
    """What upstreams have reported up to here, all attempts included: the next attempt goes on counting from it."""

    usage: Usage


class End(_Control, frozen=True, tag="end"):
    """The last entry: nothing follows, and the final message is stored."""

    state: TerminalState
    attempts: int = 0
    usage: Usage | None = None
    error: Failure | None = None


class Unknown(Struct, frozen=True):
    """An entry of a type that this release does not know."""

    type: str
    raw: bytes


_Tagged = (
    Start | StartStep | FinishStep | TextStart | TextDelta | TextEnd
    | ReasoningStart | ReasoningDelta | ReasoningEnd
    | ToolInputStart | ToolInputDelta | ToolInputAvailable | ToolInputError
    | ToolOutputAvailable | ToolOutputError | SourceUrl | SourceDocument | File
    | MessageMetadata | Finish | Abort | Error | Created | Attempt | Reset | Upstream | UsageSoFar | End
)  # fmt: skip
ContentEvent = (
    Start | StartStep | FinishStep | TextStart | TextDelta | TextEnd
    | ReasoningStart | ReasoningDelta | ReasoningEnd
    | ToolInputStart | ToolInputDelta | ToolInputAvailable | ToolInputError
    | ToolOutputAvailable | ToolOutputError | SourceUrl | SourceDocument | File
    | MessageMetadata | Finish | Abort | Error | Data
)  # fmt: skip
Event = _Tagged | Data | Unknown
Spoken = TextDelta | ReasoningDelta
"""What a model says: text, or thought."""
ToolEvent = (
    ToolInputStart | ToolInputDelta | ToolInputAvailable | ToolInputError | ToolOutputAvailable | ToolOutputError
)
"""What happens with a tool call."""

_decoder: msgspec.json.Decoder[_Tagged] = msgspec.json.Decoder(_Tagged)
_encoder = msgspec.json.Encoder()
# Line separators that JSON allows raw but that some clients' line splitters break at (U+0085, U+2028, U+2029).
_RAW_BREAKS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))


DEEPEST = 200
"""Levels of nesting that an entry may have: decoding takes stack, and not every reader has the same left of it."""
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b"{}[]"))
_RUN = re.compile(rb"(\[+)\]*")
_TYPE_FIRST = re.compile(rb'\{"type":"([^"\\]*)"')


def too_deep(raw: bytes) -> bool:
    """Tell whether JSON is nested deeper than an entry may be; at once where it has few brackets."""
    if raw.count(b"[") + raw.count(b"{") <= DEEPEST:
        return False
    brackets = _STRING.sub(b"", raw).translate(_SQUARE, _NO_BRACKET).replace(b"[]", b"")  # without innermost ones
    depth = 1
    for run in _RUN.finditer(brackets):
        opened, turn, closed = run.start(), run.end(1), run.end()
        depth += turn - opened
        if depth > DEEPEST:
            return True
        depth -= closed - turn
    return False


def encode_json(value: object) -> bytes:
    """Return compact JSON on one line that no client's line splitter can break."""
    out = _encoder.encode(value)
    if not out.isascii():
        for raw, escaped in _RAW_BREAKS:
            out = out.replace(raw, escaped)
    return out


def encode_event(event: Event) -> bytes:
    """Return the entry's payload: one line of JSON, the same bytes for equal events."""
    if isinstance(event, Unknown):
        return event.raw
    if isinstance(event, Data):
        body: dict[str, Any] = {"type": f"data-{event.name}"}
        if event.id is not None:
            body["id"] = event.id
        body["data"] = event.data
        if event.transient:
            body["transient"] = True
        return encode_json(body)
    return encode_json(event)


def decode_event(raw: bytes) -> Event:
    """Read a payload; raise `ValueError` if it is not a JSON object with a string `type`.

    One that is nested too deeply to be decoded is `Unknown`.
    """
    try:
        try:
            return _decoder.decode(raw)
        except msgspec.ValidationError:
            return _decode_other(raw)
    except RecursionError:
        kind = _TYPE_FIRST.match(raw)
        if kind is None:
            raise ValueError("a log entry is a JSON object with a type") from None
        return Unknown(kind[1].decode("utf-8", "replace"), raw)


def _decode_other(raw: bytes) -> Event:
    body = msgspec.json.decode(raw)
    kind = body.get("type") if isinstance(body, dict) else None
    if not isinstance(kind, str):
        raise ValueError("a log entry is a JSON object with a type")
    if kind.startswith("data-"):
        data_id = body.get("id")
        return Data(
            kind[5:],
            body.get("data"),
            data_id if isinstance(data_id, str) else None,
            body.get("transient") is True,
        )
    return Unknown(kind, raw)
