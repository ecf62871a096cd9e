"""Owns the errors that cross a boundary: one tree, each with a stable `code` and whether to retry.

TailraceError
├── InvalidRequest          400-class: the caller's input
│   ├── InvalidId, InvalidCursor, UnknownModel
│   └── TooLarge, UnsupportedMedia, RequestTimeout
├── NotAuthenticated, HostNotAllowed, NotFound, MethodNotAllowed, Gone
├── Conflict                busy chat, idempotency mismatch
├── Overloaded              queue or viewer bound reached
│   └── LimitReached        a bound of the caller's own
├── Unavailable             Redis cannot be reached or refuses writes
│   └── StorageFull         it is out of memory
├── StartUncertain          Redis did not answer, and something may have been created
└── UnsafeRedis             at boot: the server's configuration could lose a live log

`gateway.errors` owns the table from these to HTTP; `GENERATION_CODES` are the codes that a message's
own `end` entry may carry.
"""

from __future__ import annotations


class TailraceError(Exception):
    """The root. `code` is part of the public contract and never changes its meaning."""

    code = "internal_error"
    retryable = False


class InvalidRequest(TailraceError):
    """Raised when the input cannot be accepted as it is."""

    code = "invalid_request"


class InvalidId(InvalidRequest):
    """Raised when an id is empty, too long or not Unicode text."""

    code = "invalid_id"


class InvalidCursor(InvalidRequest):
    """Raised when a cursor is not of the cursor's form."""

    code = "invalid_cursor"


class UnknownModel(InvalidRequest):
    """Raised when no upstream of that name is configured."""

    code = "model_not_found"


class TooLarge(InvalidRequest):
    """Raised when a request body exceeds the accepted size."""

    code = "request_too_large"


class UnsupportedMedia(InvalidRequest):
    """Raised when a request body is encoded in a way that is not accepted."""

    code = "unsupported_media_type"


class RequestTimeout(InvalidRequest):
    """Raised when a request body did not arrive in time; nothing was done."""

    code = "request_timeout"
    retryable = True


class NotAuthenticated(TailraceError):
    """Raised when no valid credential came with the request."""

    code = "not_authenticated"


class HostNotAllowed(TailraceError):
    """Raised when the `Host` or `Origin` of a request is not one that this gateway answers to."""

    code = "host_not_allowed"


class NotFound(TailraceError):
    """Raised when the thing does not exist or is somebody else's: the two are not told apart."""

    code = "not_found"


class MethodNotAllowed(TailraceError):
    """Raised when a path exists and does not know the method."""

    code = "method_not_allowed"


class Gone(TailraceError):
    """Raised when the thing existed and its replay or retention period is over, or it was deleted."""

    code = "gone"


class Conflict(TailraceError):
    """Raised when the request contradicts what was accepted before."""

    code = "conflict"


class ChatBusy(Conflict):
    """Raised when the chat has a message in flight and the policy allows no second one."""

    code = "chat_busy"

    def __init__(self, active: str) -> None:
        super().__init__("the chat has a message in flight")
        self.active = active


class IdempotencyMismatch(Conflict):
    """Raised when a message id or idempotency key comes again with another body."""

    code = "idempotency_mismatch"


class Overloaded(TailraceError):
    """Raised when a bound is reached; nothing was created."""

    code = "overloaded"
    retryable = True


class LimitReached(Overloaded):
    """Raised when a bound on what this caller or chat may have in flight is reached; nothing was created."""

    code = "limit_reached"


class Unavailable(TailraceError):
    """Raised when Redis did not answer in time or refuses writes; the call may be repeated."""

    code = "unavailable"
    retryable = True


class StorageFull(Unavailable):
    """Raised when Redis refuses a write because it is out of memory."""

    code = "storage_full"


class StartUncertain(TailraceError):
    """Raised when Redis did not say whether a start took place, and a repetition would be a second one."""

    code = "start_uncertain"


class UnsafeRedis(TailraceError):
    """Raised at boot when the Redis server could lose a live log by its own configuration."""

    code = "unsafe_redis"


GENERATION_CODES: dict[str, str] = {
    "upstream_error": "The model answered with an error.",
    "upstream_rejected": "The model refused the request (4xx); repeating it will not help.",
    "upstream_rate_limited": "The model kept answering 429 until the deadline.",
    "upstream_interrupted": "The model's stream ended or broke before it said why it finished.",
    "upstream_timeout": "The model stayed silent beyond a deadline (first token, silence or total).",
    "output_limit": "The answer reached the limit on bytes or entries of one message.",
    "agent_error": "The configured agent raised an exception.",
    "worker_lost": "Workers died while writing it and no attempt is left.",
    "queue_timeout": "No worker took it before its deadline.",
    "deadline_exceeded": "Its total deadline, over all attempts, has passed.",
    "storage_full": "Redis refused to store more of it.",
    "lost": "Redis lost the log and no worker still held it.",
    "model_not_found": "The worker has no upstream of that name.",
}
"""Codes of a failed message's `end` entry, with what they mean."""
