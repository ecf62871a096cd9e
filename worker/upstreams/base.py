"""Owns what every upstream has in common: the shape of a generation, its sink, its context and its errors."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from uuid import uuid4

from msgspec import UnsetType
from msgspec.structs import astuple

from shared.errors import GENERATION_CODES
from shared.events import Event, Usage
from shared.ids import MessageRef, quote
from shared.jobs import GenerationRequest
from shared.message import Message

if TYPE_CHECKING:
    import httpx


CLOSE_S = 1.0
"""How long an upstream may take to close before it is left to itself."""


class UpstreamError(Exception):
    """Raised by an upstream that cannot go on. `code` is one of `GENERATION_CODES`; the text is fit for viewers.

    upstream_code: as `Failure` has it; fit for viewers too. cause: what broke at the bottom, for logs alone.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        retryable: bool = False,
        status: int | None = None,
        retry_after_s: float | None = None,
        upstream_code: str | None = None,
        cause: str = "",
    ) -> None:
        super().__init__(message or GENERATION_CODES[code])
        self.code = code
        self.upstream_code = upstream_code
        self.retryable = retryable
        self.status = status
        self.retry_after_s = retry_after_s
        self.cause = cause

    @property
    def for_log(self) -> dict[str, object]:
        """What a log says of it; its text may quote the request, so that is not among it."""
        return {"code": self.code, "status": self.status, "cause": self.cause}


@dataclass(slots=True)
class AgentContext:
    """What a generation may use besides its request. One per attempt; worthless once the generator has ended."""

    ref: MessageRef
    attempt: int
    earlier: Callable[[], Message | None] = field(repr=False)
    """Makes `prior`."""
    client: Callable[[], httpx.AsyncClient]
    report: Callable[[Usage], None] = field(repr=False)
    upstream_id: str = ""
    """The run to attach to again, where the upstream has such."""
    keep_upstream: bool = False
    """Set before the generator is closed if another attempt may want to attach to the upstream's run."""
    orphan: str = ""
    """Set by the upstream once it is closed: a run of its own that it could not cancel."""
    _prior: Message | None = field(default=None, init=False, repr=False)

    @property
    def prior(self) -> Message | None:
        """What earlier attempts wrote, the void text of a restart included; None on a first attempt.

        Folded when it is first asked for, always the same message then: most generations do without it.
        """
        if self._prior is None:
            self._prior = self.earlier()
        return self._prior

    @property
    def headers(self) -> dict[str, str]:
        """What calls upstream say about where they come from; the request id is a fresh one for every call."""
        return call_headers(self.ref, self.attempt)

    @property
    def http(self) -> httpx.AsyncClient:
        """An HTTP client shared by all generations of the worker; do not close it."""
        return self.client()

    def add_usage(self, usage: Usage) -> None:
        """Count the tokens of one model call towards the message; raise `TypeError` for any but whole numbers."""
        if not all(isinstance(count, int | UnsetType) for count in astuple(usage)):  # an estimate: no reader takes it
            raise TypeError("tokens are counted in whole numbers")
        self.report(usage)


def call_headers(ref: MessageRef, attempt: int) -> dict[str, str]:
    """Return what one call upstream says about where it comes from."""
    return {
        "x-request-id": uuid4().hex,
        "x-tailrace-message": quote(ref.message_id),
        "x-tailrace-attempt": str(attempt),
    }


@runtime_checkable
class CancelsRuns(Protocol):
    """An upstream whose runs outlive their connections."""

    async def cancel_run(self, run_id: str, headers: Mapping[str, str]) -> bool:
        """Have a run end upstream, trying a few times; return whether it is over. Takes some seconds at most."""
        ...


class Sink(Protocol):
    """Where an upstream's events go."""

    @property
    def begun(self) -> bool:
        """Whether a token has come: anything but the upstream's name for the answer."""
        ...

    def take(self, events: Sequence[Event], /) -> bool:
        """Take events; tell whether to await `room` before more is read. What it raises ends the answer.

        Bare deltas (id "") may be among them: the grammar opens, names and closes parts, steps and the answer.
        """
        ...

    async def room(self) -> None:
        """Wait until there is room again for what comes next."""
        ...

    async def stored(self) -> None:
        """Wait until all that was taken stands in the log, so that whoever takes over knows of it."""
        ...


async def give(sink: Sink, events: Sequence[Event]) -> None:
    """Hand `events` to `sink` and wait while it is full; per-token loops inline this."""
    if events and sink.take(events):
        await sink.room()


class Upstream(Protocol):
    """Gives an answer, event by event, to a sink. Cancelling it closes the upstream call.

    It pushes because a token's turn through nested generators costs more than all that is done with it. Without a
    `Finish` the answer counts as finished with reason `stop` once the call returns.
    """

    async def __call__(self, request: GenerationRequest, context: AgentContext, sink: Sink, /) -> None: ...


class AgentFunction(Protocol):
    """What users write: an async generator function of an answer's events. It is closed to cancel it."""

    def __call__(self, request: GenerationRequest, context: AgentContext, /) -> AsyncGenerator[Event, None]: ...


_SECRETS = re.compile(
    r"(?i:bearer|basic)\s+\S+"  # credentials in an echoed header
    r"|\b(?:sk|pk|rk|gsk|xai|key|tok)[-_][\w.*-]{6,}"  # keys by their usual prefixes, also with a part left out
    r"|[\w-]{0,40}\*{4,}[\w-]*"  # what somebody has made unreadable but for its ends
    r"|\b(?:org|proj)[-_]\w{8,}"  # whose account it is
    r"|\b[A-Za-z0-9+_=-]{32,}"  # anything long and random
    r"|[a-z][a-z0-9+.-]*://\S+"  # where the server is
    r"|(?<![\w.])(?:[A-Za-z]:)?(?:[\\/][\w.@+-]+){2,}[\\/]?"  # its files
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"  # its addresses
)
_LONGEST = 200


def clean(text: object) -> str:
    """Return an upstream's own words fit for a stranger: one short line without keys, paths, URLs and addresses."""
    words = " ".join("".join(c if c.isprintable() else " " for c in str(text)[:2000]).split())
    words = _SECRETS.sub("[...]", words)
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
