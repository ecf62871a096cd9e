"""Owns what routes read off a request: its services, whose it is, ids, and where a stream shall begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.auth import principal_of
from gateway.access.principal import Principal, check_name
from gateway.routes.table import Parameter
from gateway.services import Services
from shared.cursor import Cursor
from shared.errors import InvalidCursor, InvalidId, InvalidRequest
from shared.events import encode_json
from shared.ids import MessageRef

NO_STORE = {"cache-control": "no-store"}

CURSOR_PATTERN = "^[0-9]{16}-[1-9][0-9]{0,8}$"
STREAM_PARAMETERS = (
    Parameter("after", "query", "Begin behind this entry; one that the log does not have is an error.", CURSOR_PATTERN),
    Parameter(
        "from", "query", "`snapshot`: begin with the message so far, as one event", choices=("start", "snapshot")
    ),
    Parameter(
        "Last-Event-ID",
        "header",
        "As `after`, and wins over it; one that the log does not have is answered by a `reset` and a replay.",
    ),
)


def services_of(request: Request) -> Services:
    """Return the gateway's parts."""
    services = request.scope["state"]["services"]
    assert isinstance(services, Services)
    return services


def context(request: Request) -> tuple[Services, Principal]:
    """Return the gateway's parts and who is asking."""
    return services_of(request), principal_of(request)


def path_text(request: Request, name: str) -> str:
    """Return a part of the path, decoded; raise `InvalidId` for what is no text."""
    segment: str = request.path_params[name]
    try:
        return unquote_to_bytes(segment.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise InvalidId("the path holds an id that is not UTF-8") from None


def path_id(request: Request, name: str) -> str:
    """Return an id from the path, decoded; raise `InvalidId` for what is none."""
    return check_name(name.removesuffix("_id"), path_text(request, name))


def message_ref(request: Request, who: Principal) -> MessageRef:
    """Return the message that the path names."""
    return who.ref(path_id(request, "chat_id"), path_id(request, "message_id"))


def json_answer(value: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `value` as JSON. Answers are a caller's own, so no cache may keep them."""
    return Response(encode_json(value), status, {**NO_STORE, **(headers or {})}, "application/json")


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stream shall begin; the fields are those of `LogStream`."""

    after: Cursor | None = None
    strict: bool = False
    void: bool = False
    snapshot: bool = False

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments for `LogStream`."""
        return {"after": self.after, "strict": self.strict, "void": self.void, "snapshot": self.snapshot}


def position_of(request: Request) -> Position:
    """Read `Last-Event-ID`, `?after=` and `?from=`; raise `InvalidCursor` or `InvalidRequest`.

    A query is written by somebody who can read an error. A header is sent by a browser's EventSource, which takes
    any error for the end of the stream: whatever it says, it gets a stream.
    """
    begin = request.query_params.get("from", "start")
    if begin not in ("start", "snapshot"):
        raise InvalidRequest("from is start or snapshot")
    snapshot = begin == "snapshot"
    query = request.query_params.get("after")
    if query is not None and snapshot:
        raise InvalidRequest("a stream begins after a cursor or from a snapshot, not both")
    after = None if query is None else Cursor.parse(query)
    # An EventSource reconnects to the same URL: its header is newer than the query.
    header = request.headers.get("last-event-id")
    if header:
        try:
            return Position(Cursor.parse(header))
        except InvalidCursor:
            return Position(void=True, snapshot=snapshot)
    return Position(after, strict=after is not None, snapshot=snapshot)
