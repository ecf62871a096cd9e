"""Answers that are no answers: HTTP errors in the forms that real upstreams give them."""

from __future__ import annotations

import msgspec
from starlette.types import Send

_TYPES = {400: "invalid_request_error", 404: "invalid_request_error", 413: "invalid_request_error", 429: "requests"}
_CODES = {429: "rate_limit_exceeded", 500: "server_error", 503: "overloaded", 529: "overloaded"}


def error_object(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, object]:
    """Return OpenAI's error object, as it stands in error bodies and in the middle of streams."""
    return {"message": message, "type": kind, "param": param, "code": code}


class Refused(Exception):
    """Raised when a request gets an HTTP error instead of an answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        form: str = "openai",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code or _CODES.get(status)
        self.retry_after = retry_after
        self.form = form

    async def send(self, send: Send) -> None:
        """Answer with this error."""
        body, content_type = self._body()
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        if self.retry_after is not None:
            headers.append((b"retry-after", b"%g" % self.retry_after))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _body(self) -> tuple[bytes, bytes]:
        if self.form == "text":
            return self.message.encode(), b"text/plain; charset=utf-8"
        if self.form == "detail":
            return msgspec.json.encode({"detail": self.message}), b"application/json"
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        body = {"error": error_object(self.message, kind, self.code, self.param)}
        return msgspec.json.encode(body), b"application/json"
