"""Owns reading failures: HTTP errors, error objects in mid-stream in every shape seen, broken connections."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai

from worker.upstreams.base import UpstreamError, clean
from worker.upstreams.sse import EventTooLong

PASSING = frozenset((408, 409, 425, 429))
"""4xx answers that a repeated call may get past."""
_TOLD = frozenset(("context_length_exceeded", "content_filter", "content_policy_violation", "insufficient_quota"))
"""Codes that clients act upon. Any other stays here: it may say who serves the model, and how."""
BROKEN = (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError)
"""What the SDK and its HTTP client raise for a call that failed or a body that broke."""
_RATE_WORDS = ("rate_limit", "rate limit", "too many requests", "overloaded", "insufficient_quota_per_minute")


@contextmanager
def failing_as_upstream() -> Generator[None]:
    """Raise whatever breaks a call or its body as the `UpstreamError` that it means."""
    try:
        yield
    except EventTooLong:
        raise UpstreamError("upstream_error", "The model sent an event of more than 8 MiB.") from None
    except BROKEN as error:
        _forget_frames(error)
        raise from_sdk(error, time.time()) from None


def _forget_frames(error: BaseException | None) -> None:
    """Nobody reads where it was raised, and all that the call knew would wait for the garbage collector with it.

    Since Python 3.12 the frames of a context manager that is a generator know the error that went through them.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def from_status(status: int, body: object, headers: Any, now: float) -> UpstreamError:
    """Return the error for a failed HTTP answer; `now` is Unix time, for dates in Retry-After."""
    return _definite(_from_status(status, body, headers, now), body)


def _from_status(status: int, body: object, headers: Any, now: float) -> UpstreamError:
    wait = retry_after_s(headers, now)
    words = clean(_message(body))
    if status == 429:
        return UpstreamError("upstream_rate_limited", retryable=True, status=status, retry_after_s=wait)
    if status in PASSING or status >= 500:
        return UpstreamError(
            "upstream_error",
            f"The model answered with HTTP {status}.",
            retryable=True,
            status=status,
            retry_after_s=wait,
        )
    if status >= 400:
        said = f": {words}" if words else "."
        return UpstreamError("upstream_rejected", f"The model refused the request (HTTP {status}){said}", status=status)
    # A redirect could lead anywhere, the cloud's metadata service included.
    return UpstreamError("upstream_error", f"The model answered with HTTP {status}.", status=status)


def from_sdk(error: Exception, now: float) -> UpstreamError:
    """Return the error for an exception of the SDK or of its HTTP client."""
    if isinstance(error, openai.APIStatusError):
        return from_status(error.status_code, error.body, error.response.headers, now)
    if isinstance(error, openai.APIConnectionError | httpx2.TransportError | OSError):
        # Time-outs included: the only one set is that of connecting, and a refused connection comes as one too.
        text = "The connection to the model failed or broke."
        return UpstreamError("upstream_interrupted", text, retryable=True, cause=_bottom(error))
    return UpstreamError("upstream_error", cause=_bottom(error))


def _bottom(error: BaseException) -> str:
    """Return what an exception came from: its type, and the words of it that are the system's own."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return f"{type(error).__name__}: {error}"[:200] if isinstance(error, OSError) else type(error).__name__


def from_event(error: object) -> UpstreamError:
    """Return the error for an error object (or string, or anything) that came inside a stream."""
    return _definite(_from_event(error), error)


def _definite(error: UpstreamError, body: object) -> UpstreamError:
    """Return the error with the code that clients act upon, if it has one; then asking again is in vain."""
    error.upstream_code = _told(body)
    error.retryable = error.retryable and error.upstream_code is None
    return error


def _from_event(error: object) -> UpstreamError:
    status = _status(error)
    words = clean(_message(error))
    text = _message(error).lower() + _field(error, "type").lower() + _field(error, "code").lower()
    if status == 429 or any(word in text for word in _RATE_WORDS):
        return UpstreamError("upstream_rate_limited", retryable=True, status=429)
    if status is not None and 400 <= status < 500 and status not in PASSING:
        said = f": {words}" if words else "."
        return UpstreamError("upstream_rejected", f"The model refused the request{said}", status=status)
    return UpstreamError("upstream_error", retryable=True, status=status)


def retry_after_s(headers: Any, now: float) -> float | None:
    """Return how long the upstream asks to wait, under any of the names in use; None if it does not say."""
    if headers is None:
        return None
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return max(millis / 1000, 0.0)
    for name in ("retry-after", "x-retry-after", "ratelimit-reset"):
        raw = headers.get(name)
        seconds = _number(raw)
        if seconds is not None:
            return max(seconds, 0.0)
        if raw:
            try:
                return max(parsedate_to_datetime(raw).timestamp() - now, 0.0)
            except ValueError:
                continue
    return None


def _number(raw: object) -> float | None:
    try:
        number = float(raw) if isinstance(raw, str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None  # a proxy's script may write "NaN", and nobody can sleep so long


def _message(error: object) -> str:
    if isinstance(error, str):
        return error
    if isinstance(error, dict):
        for key in ("message", "detail", "error", "msg"):
            if error.get(key):
                return _message(error[key])
    if isinstance(error, list) and error:
        return _message(error[0])
    return ""


def _told(error: object) -> str | None:
    code = _field(error, "code")
    return code if code in _TOLD else None


def _field(error: object, name: str) -> str:
    value = error.get(name) if isinstance(error, dict) else None
    return value if isinstance(value, str) else ""


def _status(error: object) -> int | None:
    if not isinstance(error, dict):
        return None
    for key in ("status", "status_code", "code"):
        value = error.get(key)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and 100 <= value <= 599:
            return value
    return 400 if _field(error, "type") == "invalid_request_error" else None
