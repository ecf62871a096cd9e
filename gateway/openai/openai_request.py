"""Owns what the `/v1` starts have in common: reading a body, naming the message, saying where it can be found."""

from __future__ import annotations

import re
import secrets
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request

from gateway.access.principal import Principal
from gateway.bodies import parse, read_body
from gateway.openai.openai_errors import ApiError
from gateway.reading import stream_url
from gateway.services import Services
from gateway.start import check_key
from shared.ids import MessageRef, derived_id

Json = dict[str, Any]
T = TypeVar("T", bound=Struct)

NEVER_PASSED_ON = frozenset(("messages", "n"))
"""Names that an unknown parameter cannot have: with them it would be another parameter of ours."""
_PLACE = re.compile(r"`\$\.?([^`]*)`")


async def read_json(request: Request, services: Services) -> Json:
    """Return the request's body; raise `InvalidRequest` (also `TooLarge`, `RequestTimeout`) if it is no JSON object."""
    raw = await read_body(request, services.settings)
    tree: Json = parse(raw, dict[str, Any])
    return tree


def convert(tree: Json, kind: type[T]) -> T:
    """Return the body as `kind`; raise `ApiError` naming the parameter that is wrong."""
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text)
        raise ApiError(400, text[:300], code="invalid_type", param=place[1][:120] if place else None) from None


def drop_none(values: Json) -> Json:
    """Return the values that are given."""
    return {name: value for name, value in values.items() if value is not None}


def new_id(request: Request, who: Principal, prefix: str) -> str:
    """Return the id of the message that this request starts: with an `Idempotency-Key` always the same one."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return prefix + secrets.token_hex(16)
    return prefix + derived_id("", who.scope, check_key(key))[1:]


def repeatable(request: Request) -> bool:
    """Whether repeating the request is harmless, because it names its message."""
    return "idempotency-key" in request.headers


def place_headers(ref: MessageRef) -> dict[str, str]:
    """Return the headers that say which message it is, and where its native stream can be resumed."""
    return {"x-response-id": ref.message_id, "x-tailrace-stream": stream_url(ref)}
