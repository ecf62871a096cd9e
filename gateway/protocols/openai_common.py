"""Owns what the two OpenAI wires share: options kept in the log, tool arguments as text, what their clients are told.

Neither wire can take back text. So a client that has text of an attempt which was then begun anew (`reset`) is told
that its stream failed, with the code `answer_restarted`, and its stream ends there, although the log goes on;
whoever comes later (or again) gets the fresh attempt from its first event and nothing of the void one. An attempt
that was lost before it said anything is not mentioned at all, and one that was continued just goes on.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from shared.events import Failure, encode_json
from shared.message import Message, ToolPart

T = TypeVar("T", bound=Struct)

RESTARTED = Failure(
    "answer_restarted",
    "Another worker had to begin the answer anew, so what came of it so far is void. Read it again by its id.",
)
STOPPED = Failure("aborted", "The answer was stopped on request.")
UNFINISHED = Failure("upstream_error", "The model ended its answer with an error.")
UNTOLD = Failure("internal_error", "The answer failed.")

GENERATION_STATUS = {
    "upstream_rejected": 400,
    "model_not_found": 404,
    "output_limit": 422,
    "aborted": 409,
    "upstream_rate_limited": 429,
    "upstream_error": 502,
    "upstream_interrupted": 502,
    "agent_error": 500,
    "queue_timeout": 503,
    "storage_full": 503,
    "upstream_timeout": 504,
    "deadline_exceeded": 504,
}
"""The status of an answer that is not streamed, 500 for any other code; an error's type goes by it on streams too."""


def failure_status(failure: Failure) -> int:
    """Return the HTTP status that a failure is, or would be if nothing had been sent yet."""
    return GENERATION_STATUS.get(failure.code, 500)


def failure_code(failure: Failure) -> str:
    """Return the code that clients of these wires are told: the model's own where it is kept, as if they asked it."""
    return failure.upstream_code or failure.code


def error_type(status: int) -> str:
    """Return the `type` of an error of that status."""
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def read_options(raw: dict[str, Any], kind: type[T]) -> T:
    """Return a wire's options as `created` holds them; what another release wrote differently counts as not given."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        return kind()


def arguments_text(value: object) -> str:
    """Return a tool call's input as the JSON text that these wires carry; text that was never JSON stays as it is."""
    return value if isinstance(value, str) else encode_json(value).decode()


def told_arguments(text: str) -> str:
    """Return a call's arguments for the model that wrote them: it sees what was no JSON, but within an object.

    Many servers read the arguments of earlier calls and refuse the whole conversation for what is none.
    """
    if not text.strip():
        return "{}"
    return text if is_json(text) else encode_json({"not_json": text}).decode()


def is_json(text: str) -> bool:
    """Whether a call's arguments are what they should be."""
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def part_arguments(part: ToolPart) -> str:
    """Return a folded tool call's input as text, as far as it has come."""
    return part.input_text if part.state == "input-streaming" else arguments_text(part.input)


def failure_of(message: Message) -> Failure | None:
    """Return why a finished message is not an answer, None if it is one (or was stopped)."""
    if message.state == "failed":
        return message.error or UNTOLD
    return UNFINISHED if message.state == "done" and message.finish_reason == "error" else None
