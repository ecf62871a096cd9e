"""One attempt against a real Redis: what it does when its writing breaks."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import openai
import pytest

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.ids import MessageRef
from shared.jobs import GenerationRequest
from shared.link import Link
from shared.log.ending import failure
from shared.log.keys import log_keys
from shared.log.log import Log
from shared.log.types import Entry
from shared.message import decode_message
from shared.models import ModelSpec
from tests.support.log import claim, created, marker, seen
from tests.support.ports import free_port
from tests.support.wait import pass_turns, wait_until
from worker.generate import Cause, Deadlines, Generation, Parts
from worker.lease import Lease
from worker.ledger import Ledger
from worker.metrics import Metrics
from worker.recovery import Plan
from worker.sender import WriterLimits
from worker.supervisor import Supervisor
from worker.upstreams.agent import Agent
from worker.upstreams.base import AgentContext, UpstreamError
from worker.upstreams.failures import failing_as_upstream
from worker.writer import Writer

LEASE_MS = 60_000
REQUEST = GenerationRequest("m", [])
MODEL = ModelSpec(name="m")
DEADLINES = Deadlines(60, 60, 60)


class Model:
    """An upstream that says one word after another, when it is told to, and notes when it is closed."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str] = asyncio.Queue()
        self.closed = False

    async def __call__(self, request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
        try:
            while True:
                yield ev.TextDelta("", await self.words.get())
        finally:
            self.closed = True


async def logged(log: Log, ref: MessageRef, kind: type[ev.Event]) -> None:
    """Wait until the log has an event of this kind."""

    async def stands() -> bool:
        return any(isinstance(entry.event, kind) for entry in await log.read_all(ref))

    await wait_until(stands)


async def generation(
    log: Log,
    link: Link,
    ref: MessageRef,
    upstream: Any,
    spec: ModelSpec = MODEL,
    deadlines: Deadlines = DEADLINES,
) -> Generation:
    """Return a first attempt at a new message, claimed."""
    await created(log, ref)
    entries: list[Entry] = await log.read_all(ref)
    own = await claim(log, ref, lease_ms=LEASE_MS)
    metrics = Metrics()
    parts = Parts(log, Dispatcher(link), metrics, Agent(upstream), spec, set())
    plan = Plan("first", "start", entries, [entry.event for entry in entries])
    made = Generation(own, REQUEST, plan, parts, deadlines)
    ledger = Ledger(entries, own.epoch, marker(1), max_entry=65_536, max_bytes=1_000_000, max_entries=1_000)
    writer = Writer(
        log,
        own,
        ledger,
        await log.backup(ref),
        Lease(LEASE_MS, LEASE_MS // 4, asyncio.get_running_loop().time()),
        WriterLimits(262_144, 0.0, 262_144, 2.0),
        channel="tr:worker:w",
        signal=made.signal,
        metrics=metrics,
    )

    def no_client() -> Any:
        raise AssertionError("no HTTP client here")

    made.use(writer, AgentContext(ref, 1, lambda: None, no_client, made.add_usage))
    return made


async def test_an_attempt_whose_writing_breaks_ends_at_once(log: Log, link: Link, ref: MessageRef) -> None:
    model = Model()
    running = asyncio.create_task((await generation(log, link, ref, model)).run())
    model.words.put_nowait("one")

    async def written() -> bool:
        return len(await log.read_all(ref)) > 2

    await wait_until(written)
    await link.call("SET", log_keys(ref).stream, "no stream any more")
    model.words.put_nowait("two")
    assert await asyncio.wait_for(running, 5) == "abandoned"
    assert model.closed


async def test_a_tool_is_not_run_before_the_log_has_its_call(log: Log, link: Link, ref: MessageRef) -> None:
    """The log is all that another worker has to know that the tool may have done something."""
    found: list[bool] = []

    async def agent(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
        for call in (ev.ToolInputAvailable("a", "dig", {}), ev.ToolInputAvailable("b", "fill", {})):
            yield call
            found.append(call in [entry.event for entry in await log.read_all(ref)])
            yield ev.TextDelta("", "x" * 300_000)  # more than may wait: the next call comes where the writer is full

    await asyncio.wait_for((await generation(log, link, ref, agent)).run(), 5)
    assert found == [True, True]


@pytest.mark.parametrize(
    ("spec", "outcome"),
    [
        (ModelSpec(name="m", kind="agent", agent="a:b"), "done"),
        (MODEL, "failed"),  # a call for the client to answer: here it is the model that is silent
    ],
    ids=["agent", "model"],
)
async def test_a_tool_that_an_agent_runs_may_be_silent(
    log: Log, link: Link, ref: MessageRef, spec: ModelSpec, outcome: str
) -> None:
    done = asyncio.Event()

    async def upstream(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
        yield ev.ToolInputAvailable("c", "dig", {})
        await done.wait()
        yield ev.ToolOutputAvailable("c", "a hole")

    attempt = await generation(log, link, ref, upstream, spec, Deadlines(first_token_s=1, silence_s=1, total_s=60))
    running = asyncio.create_task(attempt.run())

    await logged(log, ref, ev.ToolInputAvailable)
    attempt.tick(asyncio.get_running_loop().time() + 5)
    await pass_turns(10)  # an interrupt would be acted on
    if outcome == "done":
        done.set()
    await asyncio.wait_for(running, 5)
    assert (await seen(log, ref)).state == outcome


async def test_a_call_that_could_not_be_read_is_no_running_tool(log: Log, link: Link, ref: MessageRef) -> None:
    """The model that is asked once more may hang, and then nothing but the silence ends the answer within the hour."""

    async def agent(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
        yield ev.ToolInputError("c", "dig", '{"depth', "not JSON")
        await asyncio.Event().wait()

    spec = ModelSpec(name="m", kind="agent", agent="a:b")
    attempt = await generation(log, link, ref, agent, spec, Deadlines(first_token_s=1, silence_s=1, total_s=60))
    running = asyncio.create_task(attempt.run())

    await logged(log, ref, ev.ToolInputError)
    attempt.tick(asyncio.get_running_loop().time() + 5)
    await asyncio.wait_for(running, 5)
    last = (await log.read_all(ref))[-1].event
    assert isinstance(last, ev.End)
    assert last.error == failure("upstream_timeout")


async def test_a_log_that_takes_nothing_more_is_no_silence_of_the_model(log: Log, link: Link, ref: MessageRef) -> None:
    done = asyncio.Event()

    async def upstream(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
        yield ev.TextDelta("", "word")
        await done.wait()

    attempt = await generation(log, link, ref, upstream, deadlines=Deadlines(first_token_s=1, silence_s=1, total_s=60))
    running = asyncio.create_task(attempt.run())

    async def written() -> bool:
        return len(await log.read_all(ref)) > 2

    await wait_until(written)
    attempt.writer.put(ev.Data("large", "x" * 300_000))
    assert attempt.writer.full
    attempt.tick(asyncio.get_running_loop().time() + 5)
    await pass_turns(10)  # an interrupt would be acted on
    done.set()
    await asyncio.wait_for(running, 5)
    assert (await seen(log, ref)).state == "done"


async def test_the_log_says_why_a_model_could_not_be_reached(
    log: Log, link: Link, ref: MessageRef, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def upstream(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
        nowhere = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{free_port()}/v1", api_key="k", max_retries=0)
        with failing_as_upstream():
            await nowhere.chat.completions.create(model="m", messages=[{"role": "user", "content": "the prompt"}])
        yield ev.TextDelta("", "never")

    await (await generation(log, link, ref, upstream)).run()
    [line] = [vars(record) for record in caplog.records if record.message == "upstream failed"]
    assert (line["code"], line["status"]) == ("upstream_interrupted", None)
    assert line["cause"].startswith("ConnectionRefusedError: ")
    assert "the prompt" not in caplog.text
    end = (await log.read_all(ref))[-1].event
    assert isinstance(end, ev.End)
    # viewers are not told where the model is
    assert end.error == ev.Failure("upstream_interrupted", "The connection to the model failed or broke.")


@pytest.mark.parametrize(("cause", "attempts"), [("drain", 0), ("cut_off", 1)])
async def test_only_a_drain_gives_the_attempt_back(
    log: Log, link: Link, ref: MessageRef, cause: Cause, attempts: int
) -> None:
    attempt = await generation(log, link, ref, Model())
    attempt.interrupt(cause)
    assert await attempt.run() == "released"
    meta = await seen(log, ref)
    assert (meta.state, meta.attempts) == ("queued", attempts)


@pytest.mark.parametrize("cause", ["stop", "fenced", "drain"])
async def test_an_agent_that_missed_its_cancellation_gets_no_further_than_its_next_word(
    log: Log, link: Link, ref: MessageRef, cause: Cause
) -> None:
    """Otherwise it goes on for nobody, and calls its models, for as long as its worker lives."""
    said, go_on, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    words: list[int] = []

    async def agent(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
        try:
            for number in range(3):
                yield ev.TextDelta("", "x" * 300_000)  # more than may wait unsent
                words.append(number)
                said.set()
                while not go_on.is_set():
                    with suppress(asyncio.CancelledError):
                        await go_on.wait()
        finally:
            closed.set()

    attempt = await generation(log, link, ref, agent)
    running = asyncio.create_task(attempt.run())
    await asyncio.wait_for(said.wait(), 5)
    attempt.interrupt(cause)
    await asyncio.wait_for(running, 5)
    written = await log.read_all(ref)
    go_on.set()
    await asyncio.wait_for(closed.wait(), 5)
    assert words == [0]
    assert await log.read_all(ref) == written


async def _says(what: Any) -> AsyncGenerator[Any, None]:
    yield ev.TextDelta("", "so far")
    if isinstance(what, BaseException):
        raise what
    yield what
    yield ev.TextDelta("", " and on")


@pytest.mark.parametrize(
    "what",
    [
        "a text",
        None,
        {"type": "text-delta", "delta": "x"},
        ev.TextDelta("", 5),  # type: ignore[arg-type]
        ev.TextDelta(5, "x"),  # type: ignore[arg-type]
        ev.SourceUrl("s", None),  # type: ignore[arg-type]
        ev.ToolInputAvailable("c", None, {}),  # type: ignore[arg-type]
        ev.Data("level", 5, id=7),  # type: ignore[arg-type]
        ev.Data(None, 5),  # type: ignore[arg-type]
        ev.Usage(12.5, 1, 13.5),  # type: ignore[arg-type]
        SystemExit(0),
    ],
    ids=repr,
)
async def test_what_no_agent_may_say_ends_its_answer_and_nothing_else(
    log: Log, link: Link, ref: MessageRef, what: Any
) -> None:
    """Not silently without it; not with entries that nobody can read; and not the process, as `sys.exit` would."""

    async def agent(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[Any, None]:
        if isinstance(what, ev.Usage):
            context.add_usage(what)
        async for event in _says(what):
            yield event

    attempt = await generation(log, link, ref, agent)
    assert await asyncio.wait_for(attempt.run(), 5) == "failed"
    events = [entry.event for entry in await log.read_all(ref)]
    assert not [event for event in events if isinstance(event, ev.Unknown)]
    assert isinstance(events[-1], ev.End)
    assert events[-1].error is not None
    assert events[-1].error.code == "agent_error"
    final = await log.final(ref)
    assert final is not None
    assert decode_message(final).state == "failed"


@pytest.mark.parametrize("closing", ["speaks", "raises", "hangs", "exits"])
@pytest.mark.parametrize(
    ("event", "told"),
    [
        (ev.Error("closed today"), failure("agent_error", "closed today")),
        (ev.ToolOutputAvailable("c", "x" * 2_000_000), failure("output_limit")),
    ],
    ids=["its error", "its length"],
)
async def test_why_an_answer_ended_is_told_however_its_agent_closes(
    log: Log, link: Link, ref: MessageRef, closing: str, event: ev.Event, told: ev.Failure
) -> None:
    async def agent(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[Any, None]:
        try:
            yield ev.ToolInputAvailable("c", "dig", {})  # so that its silence would be taken for the tool's
            yield event
        finally:
            match closing:
                case "speaks":
                    yield ev.ToolOutputError("c", "not finished")
                case "raises":
                    raise OSError
                case "hangs":
                    await asyncio.Event().wait()
                case _:
                    raise SystemExit

    attempt = await generation(log, link, ref, agent)
    assert await asyncio.wait_for(attempt.run(), 5) == "failed"
    last = (await log.read_all(ref))[-1].event
    assert isinstance(last, ev.End)
    assert last.error == told


async def _one_word(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    yield ev.TextDelta("", "a word")


async def _word_and_error(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    context.add_usage(ev.Usage(1, 2, 3))
    yield ev.TextDelta("", "a word")
    raise UpstreamError("upstream_error")


async def _endless(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
    while True:  # to the limit, at which a segment is just being written
        yield ev.TextDelta("", "x" * 10_000)


@pytest.mark.parametrize(
    "upstream", [_one_word, _word_and_error, _endless, Model()], ids=["done", "failed", "too long", "stopped"]
)
async def test_nothing_of_an_attempt_that_is_over_waits_for_the_garbage_collector(
    log: Log, link: Link, ref: MessageRef, upstream: Any
) -> None:
    """A worker looks for garbage rarely, and what would wait for that is whole logs, of hundreds of messages."""
    supervisor = Supervisor(1, log, LEASE_MS, Metrics(), lambda: None)
    attempt = await generation(log, link, ref, upstream)
    kept = [weakref.ref(part) for part in (attempt, attempt.writer, attempt.writer.ledger)]
    gc.disable()
    try:
        assert supervisor.reserve()
        supervisor.start(attempt)
        if isinstance(upstream, Model):
            attempt.interrupt("stop")
        del attempt
        await wait_until(lambda: supervisor.free == 1)
        await wait_until(lambda: not [part() for part in kept if part() is not None], 2, "something is kept")
    finally:
        gc.enable()


@pytest.mark.parametrize(("code", "unfit"), [(None, {"m"}), ("context_length_exceeded", set())], ids=repr)
async def test_only_a_refusal_to_continue_says_that_a_model_does_not(
    log: Log, link: Link, ref: MessageRef, code: str | None, unfit: set[str]
) -> None:
    """One answer that has grown too long for its model is no reason to begin everybody's anew for good."""

    async def upstream(request: GenerationRequest, context: AgentContext) -> AsyncGenerator[ev.Event, None]:
        if request.messages:  # with what was said so far
            raise UpstreamError("upstream_rejected", upstream_code=code)
        yield ev.TextDelta("", "anew")

    attempt = await generation(log, link, ref, upstream)
    attempt._plan = replace(attempt._plan, reason="worker_lost", mode="continue", partial="so far")
    assert await asyncio.wait_for(attempt.run(), 5) == "done"
    assert attempt._parts.unfit_for_prefill == unfit
