"""Owns a user's own agent: an async generator function named by a dotted path, called as an upstream."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import cast

from shared.events import Event, ToolInputAvailable
from shared.jobs import GenerationRequest
from worker.upstreams.base import CLOSE_S, AgentContext, AgentFunction, Sink

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as an `Upstream`."""

    function: AgentFunction

    async def __call__(self, request: GenerationRequest, context: AgentContext, sink: Sink) -> None:
        """Give the sink what the agent yields; raise what it raises, but nothing that would end the process."""
        events = self.function(request, context)
        try:
            async for event in events:
                full = sink.take((event,))
                if isinstance(event, ToolInputAvailable):
                    await sink.stored()  # or a tool that takes the worker with it would be run by the next one too
                elif full:
                    await sink.room()
        except SystemExit as error:  # of a tool that is a program, say: the other answers are not its business
            raise RuntimeError("the agent called for the end of the process") from error
        finally:
            await _close(events)


async def _close(events: AsyncGenerator[Event, None]) -> None:
    """Close an agent that is not through. What is wrong with its end is logged: what ended it is raised already."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await events.aclose()
    except (Exception, SystemExit) as error:
        log.warning("agent did not close", extra={"reason": repr(error)})


def load_agent(path: str) -> Agent:
    """Return the agent `package.module:name`; raise `ValueError` saying why if there is none.

    Its signature is `async def agent(request: GenerationRequest, context: AgentContext) -> AsyncIterator[Event]`
    with `yield` inside. What it raises ends the message with `agent_error`.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"agent {path}: {error}") from None
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported; where, a sentence cannot say
        log.error("agent cannot be imported", extra={"agent": path}, exc_info=error)
        raise ValueError(f"agent {path}: {type(error).__name__}: {error}") from None
    found = getattr(module, name, None)
    if found is None:
        raise ValueError(f"agent {path}: the module has no {name!r}")
    call = found if inspect.isroutine(found) else getattr(found, "__call__", None)  # noqa: B004 - an object may be one
    if not inspect.isasyncgenfunction(call):
        raise ValueError(f"agent {path} must be an async generator function (async def with yield)")
    return Agent(cast(AgentFunction, found))
