"""Owns loading a user's own agent: an async generator function named by a dotted path."""

from __future__ import annotations

import importlib
import inspect
from typing import cast

from worker.upstreams.base import Upstream


def load_agent(path: str) -> Upstream:
    """Return the function `package.module:name`; raise `ValueError` saying why if there is none.

    Its signature is `async def agent(request: GenerationRequest, context: AgentContext) -> AsyncIterator[Event]`
    with `yield` inside. What it raises ends the message with `agent_error`.
    """
    module_name, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except ImportError as error:
        raise ValueError(f"agent {path}: {error}") from None
    except AttributeError:
        raise ValueError(f"agent {path}: the module has no {name!r}") from None
    call = found if inspect.isroutine(found) else getattr(found, "__call__", None)  # noqa: B004 - an object may be one
    if not inspect.isasyncgenfunction(call):
        raise ValueError(f"agent {path} must be an async generator function (async def with yield)")
    return cast(Upstream, found)
