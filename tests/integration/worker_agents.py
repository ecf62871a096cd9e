"""Agents that the worker's integration tests name by their dotted path."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress

from shared import events as ev
from shared.jobs import GenerationRequest
from worker.upstreams.base import AgentContext


async def weather(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Think, call a tool, answer: two steps, bare deltas."""
    yield ev.ReasoningDelta("", "Which place?")
    yield ev.ToolInputAvailable("call_1", "weather", {"place": request.messages[-1]["content"]})
    context.add_usage(ev.Usage(10, 5, 15))
    yield ev.ToolOutputAvailable("call_1", {"degrees": 21})
    yield ev.StartStep()
    yield ev.TextDelta("", "It is ")
    yield ev.TextDelta("", "21 degrees.")
    yield ev.SourceUrl("s1", "https://weather.example", "Weather")
    context.add_usage(ev.Usage(20, 5, 25))


async def broken(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Say something, then fail with words that nobody else may read."""
    yield ev.TextDelta("", "so far")
    raise RuntimeError(f"secret detail of {request.messages}")


async def self_cancelled(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Say something, then wait for a task of its own that was cancelled."""
    yield ev.TextDelta("", "so far")
    tool = asyncio.create_task(asyncio.Event().wait())
    tool.cancel()
    await tool


async def verbose(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Run a tool whose output is as large as the prompt says."""
    yield ev.ToolInputAvailable("call_1", "read", {})
    yield ev.ToolOutputAvailable("call_1", "x" * int(request.messages[-1]["content"]))
    yield ev.TextDelta("", "read")


async def counting(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Have the client look twice, as a model that counts its calls from 0 in every turn, and say what it saw."""
    seen = [message["content"] for message in request.messages if message["role"] == "tool"]
    if len(seen) < 2:
        yield ev.ToolInputAvailable("look:0", "look", {"place": len(seen)})
        yield ev.Finish("tool-calls")
    else:
        yield ev.TextDelta("", " ".join(seen))


async def busy(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Tell of every step there is, for ever; no two of these become one entry."""
    while True:
        yield ev.Data("step", 1)


async def giving_up(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Fail with words for the viewer."""
    yield ev.TextDelta("", "so far")
    yield ev.Error("The archive is closed today.")


async def careful(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Run a tool once, however often it is restarted: what was done stands in `context.prior`."""
    done = context.prior is not None and any(getattr(part, "output", None) for part in context.prior.parts)
    yield ev.ToolInputAvailable("call_1", "pay", {})
    yield ev.ToolOutputAvailable("call_1", "paid before" if done else "paid now")
    if not done:
        await asyncio.Event().wait()
    yield ev.TextDelta("", f"attempt {context.attempt}")


async def deadly(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Run a tool that does something, in the file that the prompt names, and takes its worker with it."""
    yield ev.ToolInputAvailable("call_1", "pay", {})
    ledger = os.open(request.messages[-1]["content"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(ledger, b"paid\n")
    os.kill(os.getpid(), signal.SIGKILL)


async def costly(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Report one call and get stuck in the next; the second attempt gets through."""
    context.add_usage(ev.Usage(10, 5, 15))
    yield ev.TextDelta("", f"attempt {context.attempt} ")
    if context.attempt == 1 or request.messages[-1]["content"] == "forever":
        await asyncio.Event().wait()
    context.add_usage(ev.Usage(20, 5, 25))
    yield ev.TextDelta("", "done")


async def quitting(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Run two tools at a time that are programs, and call for the end of the process."""

    async def tool() -> None:
        await asyncio.sleep(0)  # both are under way
        raise SystemExit(2)

    yield ev.TextDelta("", "so far")
    await asyncio.gather(tool(), tool())


AT_A_TIME = 50
"""More than the threads that asyncio brings by itself, on any machine of the usual size."""
_meeting = threading.Barrier(AT_A_TIME)


async def meeting(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Block until all others do so too."""
    await asyncio.to_thread(_meeting.wait, 15)
    yield ev.TextDelta("", "met")


async def deep(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Block for ever."""
    yield ev.TextDelta("", "diving")
    await asyncio.to_thread(threading.Event().wait)


async def stubborn(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Never end, whatever is cancelled."""
    yield ev.TextDelta("", "still here")
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def mute(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    """Get stuck without a report; the second attempt reports."""
    yield ev.TextDelta("", f"attempt {context.attempt}")
    if context.attempt == 1:
        await asyncio.Event().wait()
    context.add_usage(ev.Usage(20, 5, 25))
