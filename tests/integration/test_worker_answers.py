"""One worker, a real Redis, the scripted model: answers, stops, failures, limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from deploy.scripted_model.text import full_reasoning, full_text
from shared import events as ev
from shared.feed import feed_key
from shared.log.keys import log_keys
from shared.message import TextPart, ToolPart
from tests.integration.worker_kit import Kit, attempts, end, messages, open_kit
from tests.support.log import lasts
from tests.support.processes import chat_model, http_get
from tests.support.redis import RedisServer
from tests.support.wait import wait_until

StartRedis = Callable[..., RedisServer]
pytestmark = pytest.mark.asyncio(loop_scope="module")
MAX_BYTES = 400_000
LIVE_S, REPLAY_S, RETAIN_S, TOMBSTONE_S = 1000, 2000, 3000, 4000
PERIODS = {
    "TAILRACE_LIVE_TTL_S": LIVE_S,
    "TAILRACE_REPLAY_S": REPLAY_S,
    "TAILRACE_RETAIN_S": RETAIN_S,
    "TAILRACE_TOMBSTONE_S": TOMBSTONE_S,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kit(emptied_redis: RedisServer) -> AsyncIterator[Kit]:
    """One worker for all tests here. The model named `impatient` has short deadlines."""
    async with open_kit(emptied_redis.url) as kit:
        impatient = chat_model(kit.model.port, name="impatient", first_token_s=0.5, silence_s=0.5)
        kit.models = [chat_model(kit.model.port), impatient]
        await kit.worker(TAILRACE_LEASE_MS=8000, TAILRACE_MAX_MESSAGE_BYTES=MAX_BYTES, **PERIODS)
        yield kit


async def test_a_whole_answer_is_logged_folded_and_counted(kit: Kit) -> None:
    prompt = "tell me about rivers [[rate=0 tokens=300 reasoning=20]]"
    ref = await kit.send(prompt)
    message = await kit.ended(ref)
    events = await kit.events(ref)
    assert message.state == "done"
    assert message.text == full_text(messages(prompt))
    assert message.finish_reason == "stop"
    assert message.usage is not None
    assert message.usage.output_tokens > 300
    assert "".join(e.delta for e in events if isinstance(e, ev.ReasoningDelta)) == full_reasoning(messages(prompt))
    assert attempts(events) == [(1, "first", "start")]
    assert end(events).usage == message.usage
    assert await kit.log.active(ref.tenant, ref.chat_id) is None


async def test_no_metric_has_a_second_series_that_nobody_reads(kit: Kit) -> None:
    """The library adds the time of its creation to every counter and every combination of its labels."""
    (worker,) = kit.workers.values()
    _, metrics = await http_get(worker.port, "/metrics")
    assert b"tailrace_attempts_total" in metrics
    assert b"_created" not in metrics


async def test_the_first_token_is_logged_while_the_rest_is_still_to_come(kit: Kit) -> None:
    ref = await kit.send("[[rate=20 tokens=40 reasoning=0]] mills")
    await kit.wait_text(ref, 1)
    assert not (await kit.meta(ref)).terminal
    assert (await kit.ended(ref)).state == "done"


async def test_what_a_worker_writes_is_kept_as_long_as_the_settings_say(kit: Kit) -> None:
    ref = await kit.send("[[rate=40 endless=1 reasoning=0]] springs")
    keys = log_keys(ref)
    await kit.wait_text(ref, 1)
    for key in keys.live_keys:
        await lasts(kit.link, key, LIVE_S)
    await kit.log.stop(ref)
    assert (await kit.ended(ref)).state == "aborted"
    for key, period_s in ((keys.stream, REPLAY_S), (keys.meta, RETAIN_S), (keys.tomb, TOMBSTONE_S)):
        await lasts(kit.link, key, period_s)
    # Told right behind the end.
    await wait_until(lambda: kit.link.call("EXISTS", feed_key(ref.tenant)))
    await lasts(kit.link, feed_key(ref.tenant), RETAIN_S)


async def test_a_stop_ends_the_message_and_the_upstream_call_within_a_second(kit: Kit) -> None:
    ref = await kit.send("[[rate=40 endless=1 reasoning=0]] tides")
    await kit.wait_text(ref, 20)
    reply = await kit.log.stop(ref)
    assert reply.status == "stopping"

    async def closed() -> bool:
        return all(not call["open"] for call in await kit.calls(ref))

    await wait_until(closed, deadline_s=1.0, what="the upstream call closed")
    message = await kit.ended(ref, within_s=2.0)
    events = await kit.events(ref)
    assert message.state == "aborted"
    assert full_text(messages("[[tokens=5000 reasoning=0]] tides")).startswith(message.text)
    assert [type(e).__name__ for e in events[-4:]] == ["TextEnd", "FinishStep", "Abort", "End"]
    assert [call["outcome"] for call in await kit.calls(ref)] == ["client_gone"]


async def test_a_stop_reaches_an_upstream_that_is_silent(kit: Kit) -> None:
    ref = await kit.send("[[fault=hang@0]] fog")

    async def called() -> bool:
        return bool(await kit.calls(ref))

    await wait_until(called)
    await kit.log.stop(ref)
    message = await kit.ended(ref, within_s=1.5)
    assert message.state == "aborted"
    assert message.text == ""


async def test_a_deleted_message_closes_its_upstream_call_and_stays_deleted(kit: Kit) -> None:
    ref = await kit.send("[[rate=40 endless=1 reasoning=0]] tides")
    await kit.wait_text(ref, 20)
    assert await kit.log.delete(ref)

    async def closed() -> bool:
        return all(not call["open"] for call in await kit.calls(ref))

    await wait_until(closed, deadline_s=1.0, what="the upstream call closed")
    assert (await kit.meta(ref)).state == "deleted"
    assert await kit.log.read_all(ref) == []


async def test_429_then_success_is_an_answer_like_any_other(kit: Kit) -> None:
    prompt = "[[status=429 retry_after=0.1 times=2 rate=0 tokens=30]] wind"
    ref = await kit.send(prompt)
    message = await kit.ended(ref)
    assert (message.state, message.text) == ("done", full_text(messages(prompt)))

    async def over() -> list[str]:
        calls = await kit.calls(ref)
        return [] if any(call["open"] for call in calls) else [call["outcome"] for call in calls]

    # An answer may be in the log a moment before the model's journal has how it ended.
    assert await wait_until(over) == ["refused:429", "refused:429", "done"]
    assert attempts(await kit.events(ref)) == [(1, "first", "start")]


@pytest.mark.parametrize(
    ("fault", "code"),
    [("eof@25", "upstream_interrupted"), ("reset@25", "upstream_interrupted"), ("error@25", "upstream_error")],
)
async def test_an_error_after_tokens_keeps_the_partial_text(kit: Kit, fault: str, code: str) -> None:
    prompt = f"[[rate=0 tokens=100 reasoning=0 fault={fault}]] snow"
    ref = await kit.send(prompt)
    message = await kit.ended(ref)
    events = await kit.events(ref)
    assert message.state == "failed"
    assert message.error is not None
    assert message.error.code == code
    assert message.text
    assert full_text(messages(prompt)).startswith(message.text)
    assert all(part.state == "done" for part in message.parts if isinstance(part, TextPart))
    assert isinstance(events[-2], ev.Error)
    assert len(await kit.calls(ref)) == 1


async def test_a_refused_request_fails_at_once(kit: Kit) -> None:
    ref = await kit.send("[[status=400]] x")
    message = await kit.ended(ref, within_s=3.0)
    assert message.error is not None
    assert message.error.code == "upstream_rejected"
    assert len(await kit.calls(ref)) == 1


async def test_a_code_of_the_models_is_kept_beside_ours(kit: Kit) -> None:
    for said, kept in (("content_filter", "content_filter"), ("cluster-7", None)):
        ref = await kit.send(f"[[status=400 error_code={said}]] x")
        error = (await kit.ended(ref, within_s=3.0)).error
        assert error is not None
        assert (error.code, error.upstream_code) == ("upstream_rejected", kept)
        assert said not in error.message


async def test_silence_ends_with_its_deadline(kit: Kit) -> None:
    before = await kit.send("[[fault=hang@0]] x", "impatient")
    after = await kit.send("[[rate=0 fault=hang@10 reasoning=0]] y", "impatient")
    for ref, has_text in ((before, False), (after, True)):
        message = await kit.ended(ref, within_s=5.0)
        assert message.error is not None
        assert message.error.code == "upstream_timeout"
        assert bool(message.text) is has_text


async def test_an_endless_answer_ends_at_the_limit_with_its_text_kept(kit: Kit) -> None:
    message = await kit.ended(await kit.send("[[rate=0 endless=1 reasoning=0]] z"))
    assert message.error is not None
    assert message.error.code == "output_limit"
    assert MAX_BYTES // 2 < len(message.text) < MAX_BYTES


async def test_an_oversized_delta_is_split_into_entries(kit: Kit) -> None:
    prompt = "[[rate=0 tokens=10 reasoning=0 fault=huge@300000]] z"
    ref = await kit.send(prompt)
    message = await kit.ended(ref)
    assert message.text == full_text(messages(prompt))
    assert max(len(entry.raw) for entry in await kit.log.read_all(ref)) <= 65_536


async def test_a_tool_call_is_logged_whole(kit: Kit) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    ref = await kit.send("[[tool=1 rate=0]] look", tools=tools)
    message = await kit.ended(ref)
    calls = [part for part in message.parts if isinstance(part, ToolPart)]
    assert [(call.tool_name, call.state) for call in calls] == [("look", "input-available")]
    assert message.finish_reason == "tool-calls"


async def test_an_unknown_model_is_told(kit: Kit) -> None:
    message = await kit.ended(await kit.send("x", model="nobody"))
    assert message.error is not None
    assert message.error.code == "model_not_found"


async def test_a_full_worker_leaves_the_rest_in_the_queue_until_a_slot_is_free(start_redis: StartRedis) -> None:
    async with open_kit(start_redis().url) as kit:
        worker = await kit.worker(TAILRACE_WORKER_SLOTS=2)
        refs = [await kit.send("[[rate=100 tokens=40 reasoning=0]] x") for _ in range(6)]
        for ref in refs:
            assert (await kit.ended(ref)).state == "done"

        async def six_done() -> bool:  # a worker counts an answer once it has ended it
            return await kit.metric(worker, "tailrace_generations_total", outcome="done") == 6

        await wait_until(six_done)
        assert await kit.dispatcher.depth() == 0
