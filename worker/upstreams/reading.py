"""Owns reading the body of an SDK's response as bytes, with as little as possible between the socket and us."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, cast

from openai import AsyncAPIResponse

_PLAIN = ("", "identity")


def body_of(response: AsyncAPIResponse[Any]) -> AbstractAsyncContextManager[AsyncGenerator[bytes, None]]:
    """Return the body's pieces as they come, to be closed after use. Raises what the SDK's HTTP client raises.

    A body without a content coding is read from the transport's own stream: the three generators that the client and
    the SDK put before it do nothing to such a body, and cost more than a token's decoding.
    """
    http = response.http_response
    plain = http.headers.get("content-encoding", "").strip().lower() in _PLAIN
    pieces = aiter(http.stream) if plain else response.iter_bytes()  # type: ignore[arg-type]  # of an async client
    return aclosing(cast("AsyncGenerator[bytes, None]", pieces))
