"""Owns what an operation is: one record from which both the router and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

Handler = Callable[[Request], Awaitable[Response | ASGIApp]]
Answer = type[Struct] | Literal["stream", "text", "empty"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or a header."""

    name: str
    place: Literal["query", "header"]
    text: str
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    lengths: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `answers` are the successes; `errors` the statuses that it may refuse with."""

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, tuple[Answer, ...]]
    errors: tuple[int, ...] = ()
    body: type[Struct] | None = None
    parameters: tuple[Parameter, ...] = ()
    public: bool = False

    @property
    def streams(self) -> bool:
        """Whether the answer may have no end in sight."""
        return any("stream" in kinds for kinds in self.answers.values())


def make_routes(operations: Iterable[Operation]) -> list[Route]:
    """Return one route for each path, so that 405 names every method that the path knows."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = operation
    return [_route(path, methods) for path, methods in paths.items()]


class Endpoint:
    """Answers every method of one path. Its handler's answer is run behind it, so that a stream, which may stay for
    hours, holds neither the request nor the handler (as it would in an endpoint that is a function).
    """

    def __init__(self, known: Mapping[str, Operation]) -> None:
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> ASGIApp:
        operation = self._known.get(scope["method"])
        if operation is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self._known))})
        scope["state"]["operation"] = operation.name
        return await operation.handler(Request(scope, receive))


def _route(path: str, methods: dict[str, Operation]) -> Route:
    # HEAD of a stream would have to wait for its end to be honest, so streams have none.
    head = methods.get("GET")
    known = dict(methods) if head is None or head.streams else {**methods, "HEAD": head}

    return Route(path, Endpoint(known))
