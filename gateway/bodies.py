"""Owns request bodies: read with a bound and a deadline, parsed as JSON whatever the content type says.

No body, however large, deep, slow or broken, gives anything but an error of the 400s.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import ClientDisconnect, Request

from gateway.settings import GatewaySettings
from shared.errors import InvalidRequest, RequestTimeout, TooLarge, UnsupportedMedia
from shared.events import encode_json
from shared.ids import MAX_ID_BYTES
from shared.log.types import Policy

DEEPEST = 64
"""Levels of nesting. Far beyond what models take, far below where a JSON encoder gives up later."""
MOST_VALUES = 100_000
"""Values in one body: what walking over it may cost."""

_OURS = ("model", "messages", "input", "stream", "stream_options", "n", "background", "store")
# What SDKs take beside the body: with these a caller would choose where our key is sent.
_SDK = ("api_key", "base_url", "extra_headers", "extra_query", "extra_body", "timeout", "max_retries")
RESERVED = frozenset((*_OURS, *_SDK))
"""Names of parameters that are not the caller's to set."""

T = TypeVar("T")


class ContentPart(Struct):
    """A piece of a message's content; further fields depend on its type."""

    type: str


class MessageForm(Struct):
    """The form of a Chat Completions message; further fields (name, tool_calls, ...) are passed on as they come."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None


_TEXT = {"type": "string"}
_PART = {"type": "object", "required": ["type"], "properties": {"type": _TEXT}}
_MESSAGE_SCHEMA: dict[str, Any] = {
    "required": ["role"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]},
        "content": {"anyOf": [_TEXT, {"type": "array", "items": _PART}, {"type": "null"}]},
    },
}
"""`MessageForm` as a schema. The messages themselves stay dictionaries, so that no field of theirs is lost."""


class StartBody(Struct, forbid_unknown_fields=True):
    """What `POST /chats/{chat_id}/messages` takes."""

    messages: Annotated[
        list[Annotated[dict[str, Any], Meta(extra_json_schema=_MESSAGE_SCHEMA)]],
        Meta(min_length=1, description="The conversation, as Chat Completions messages."),
    ]
    model: Annotated[str, Meta(description="Empty: the default model.")] = ""
    params: Annotated[
        dict[str, Any],
        Meta(
            description="Further parameters for the model: temperature, tools, max_tokens, ...",
            extra_json_schema={"propertyNames": {"not": {"enum": sorted(RESERVED)}}},
        ),
    ] = {}
    message_id: Annotated[
        str | None,
        Meta(
            description="Names the answer, so that a repeated start is the same one. Or use `Idempotency-Key`.",
            extra_json_schema={"minLength": 1, "maxLength": MAX_ID_BYTES},
        ),
    ] = None
    policy: Annotated[
        Policy | None,
        Meta(
            description="While the chat has messages in flight: refuse, stop them all and take their place, or join "
            "them; null: as the gateway is set."
        ),
    ] = None
    metadata: Annotated[dict[str, Any], Meta(description="Kept with the request, not sent to the model.")] = {}


async def read_body(request: Request, settings: GatewaySettings, *, most_bytes: int | None = None) -> bytes:
    """Return the whole body; raise `TooLarge`, `UnsupportedMedia` or `RequestTimeout`.

    most_bytes: a bound to keep instead of the settings' one.
    """
    most_bytes = settings.max_body_bytes if most_bytes is None else most_bytes
    # Inflating is where a small body becomes a large one; no client of these APIs compresses requests.
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMedia("request bodies must not be compressed")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most_bytes:
        raise _too_large(most_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_deadline_s):
            async for part in request.stream():
                size += len(part)
                if size > most_bytes:
                    raise _too_large(most_bytes)
                parts.append(part)
    except TimeoutError:
        raise RequestTimeout("the request body did not arrive in time") from None
    except ClientDisconnect:
        raise InvalidRequest("the client left before its request was complete") from None
    return b"".join(parts)


def _too_large(most_bytes: int) -> TooLarge:
    """Return the error, made where it is raised: by a name in that frame it would keep all that has come until then."""
    return TooLarge(f"a request body may have {most_bytes} bytes")


def parse(raw: bytes, kind: type[T]) -> T:
    """Return the body as a `kind`; raise `InvalidRequest` saying where it is wrong."""
    try:
        tree = msgspec.json.decode(raw)
        check_size(tree)
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_short(str(error))) from None
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None
    except ValueError:  # malformed JSON, invalid UTF-8, numbers without bound
        raise InvalidRequest("the request body is not valid JSON") from None


def parse_start(raw: bytes) -> StartBody:
    """Return a start's body, every message checked."""
    body = parse(raw, StartBody)
    check_messages(body.messages)
    return body


def check_messages(messages: list[dict[str, Any]]) -> None:
    """Raise `InvalidRequest` unless each is a Chat Completions message as far as we can tell for any model."""
    try:
        msgspec.convert(messages, list[MessageForm])
    except msgspec.ValidationError as error:
        raise InvalidRequest(_short(f"messages: {error}")) from None


def check_grown(messages: list[dict[str, Any]], settings: GatewaySettings) -> None:
    """Raise `TooLarge` if a conversation, of which we had a part already, is more than one body may be."""
    if len(encode_json(messages)) > settings.max_body_bytes:
        # Without that part its text would have had to come in one body.
        raise TooLarge("the conversation is longer than a request may be; begin a new one")


def check_size(tree: object) -> None:
    """Raise `InvalidRequest` for JSON that is deeper or has more values than is accepted."""
    level: list[object] = [tree]
    count = 0
    for _ in range(DEEPEST):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            if count + len(below) > MOST_VALUES:
                raise InvalidRequest(f"the JSON has more than {MOST_VALUES} values")
        if not below:
            return
        count += len(below)
        level = below
    raise InvalidRequest(f"the JSON is nested deeper than {DEEPEST} levels")


def _short(text: str) -> str:
    """Return an error's text, cut: it may quote what the caller sent."""
    return text if len(text) <= 300 else text[:297] + "..."
