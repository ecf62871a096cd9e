"""Workers that die, freeze, leave or crash at the worst moment: another one goes on, and every log has one end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from deploy.scripted_model.text import full_text
from shared import events as ev
from shared.ids import MessageRef
from shared.log.keys import log_keys
from tests.integration.worker_kit import LEASE_MS, Kit, attempts, end, messages, open_kit
from tests.support.processes import ProcessGroup, ServerProcess, chat_model
from tests.support.redis import RedisServer
from tests.support.wait import wait_until

SLOW = "[[rate=40 tokens=160 reasoning=0 markdown=0]] the river at night"
"""About four seconds and 800 characters of plain text."""
REFUSING = SLOW.replace("[[", "[[prefill=reject ")
POLICIES = {"continues": SLOW, "refuses": REFUSING, "restarts": SLOW, "fails": SLOW, "background": SLOW}


def give_models(kit: Kit) -> None:
    port = kit.model.port
    kit.models = [
        chat_model(port),
        chat_model(port, name="continues"),
        chat_model(port, name="refuses"),
        chat_model(port, name="restarts", recovery="restart"),
        chat_model(port, name="fails", recovery="fail"),
        chat_model(port, name="background", kind="responses", prefill=False, background=True),
        chat_model(port, name="anew", kind="responses", prefill=False, background=True, recovery="restart"),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[ServerProcess]:
    """One scripted model for all tests here."""
    async with ProcessGroup() as group:
        yield await group.model()


@pytest.fixture
async def kit(redis_url: str, model: ServerProcess) -> AsyncIterator[Kit]:
    """An emptied Redis and the model under several policies; workers are the test's to start."""
    async with open_kit(redis_url, model) as kit:
        give_models(kit)
        yield kit


class Taken:
    """One message of each model, all on one worker, which was killed in the middle of them."""

    def __init__(self, kit: Kit, refs: dict[str, MessageRef]) -> None:
        self.kit = kit
        self.refs = refs


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def taken(redis_server: RedisServer, model: ServerProcess) -> AsyncIterator[Taken]:
    # A database of its own: the other tests empty theirs.
    async with open_kit(redis_server.url.removesuffix("/0") + "/5", model) as kit:
        give_models(kit)
        first, second = await asyncio.gather(kit.worker(), kit.worker())
        second.freeze()  # so that the first gets them all
        refs = {model: await kit.send(prompt, model) for model, prompt in POLICIES.items()}
        for ref in refs.values():
            await kit.wait_text(ref, 150)
        await first.kill()
        second.thaw()
        yield Taken(kit, refs)


pytestmark = pytest.mark.timeout(120)
in_one_loop = pytest.mark.asyncio(loop_scope="module")


@in_one_loop
async def test_a_continued_answer_equals_the_uninterrupted_one(taken: Taken) -> None:
    message = await taken.kit.ended(taken.refs["continues"])
    events = await taken.kit.events(taken.refs["continues"])
    assert (message.state, message.text) == ("done", full_text(messages(SLOW)))
    assert attempts(events) == [(1, "first", "start"), (2, "worker_lost", "continue")]
    assert not any(isinstance(event, ev.Reset) for event in events)


@in_one_loop
async def test_a_restarted_answer_is_the_last_attempts_alone(taken: Taken) -> None:
    message = await taken.kit.ended(taken.refs["restarts"])
    events = await taken.kit.events(taken.refs["restarts"])
    assert (message.state, message.text) == ("done", full_text(messages(SLOW)))
    assert attempts(events) == [(1, "first", "start"), (2, "worker_lost", "restart")]
    reset = next(index for index, event in enumerate(events) if isinstance(event, ev.Reset))
    assert events[reset] == ev.Reset(1, "worker_lost")
    assert isinstance(events[reset + 1], ev.Start)
    assert end(events).attempts == 2


@in_one_loop
async def test_a_model_that_refuses_to_continue_is_restarted(taken: Taken) -> None:
    message = await taken.kit.ended(taken.refs["refuses"])
    events = await taken.kit.events(taken.refs["refuses"])
    assert (message.state, message.text) == ("done", full_text(messages(REFUSING)))
    assert attempts(events)[1] == (2, "worker_lost", "continue")
    assert ev.Reset(1, "upstream_error") in events


@in_one_loop
async def test_a_background_run_is_attached_to_again_and_billed_once(taken: Taken) -> None:
    ref = taken.refs["background"]
    message = await taken.kit.ended(ref)
    events = await taken.kit.events(ref)
    assert (message.state, message.text) == ("done", full_text(messages(SLOW)))
    assert attempts(events) == [(1, "first", "start"), (2, "worker_lost", "reattach")]
    assert not any(isinstance(event, ev.Reset) for event in events)
    assert [call["api"] for call in await taken.kit.calls(ref)] == ["responses", "responses.retrieve"]


@in_one_loop
async def test_where_a_second_call_is_forbidden_a_lost_worker_is_the_end(taken: Taken) -> None:
    message = await taken.kit.ended(taken.refs["fails"])
    events = await taken.kit.events(taken.refs["fails"])
    assert message.state == "failed"
    assert message.error is not None
    assert message.error.code == "worker_lost"
    assert len(message.text) >= 150
    assert [type(event).__name__ for event in events[-4:]] == ["TextEnd", "FinishStep", "Error", "End"]


async def test_an_answer_continued_after_two_kills_equals_the_uninterrupted_one(kit: Kit) -> None:
    await asyncio.gather(*(kit.worker() for _ in range(3)))
    ref = await kit.send(SLOW)
    for attempt, characters in ((1, 100), (2, 300)):
        await kit.wait_text(ref, characters)
        await (await kit.owner(ref)).kill()
        await kit.wait_attempts(ref, attempt + 1)
    message = await kit.ended(ref)
    assert (message.state, message.text) == ("done", full_text(messages(SLOW)))
    assert [mode for _, _, mode in attempts(await kit.events(ref))] == ["start", "continue", "continue"]


async def test_a_stopped_background_run_is_cancelled_upstream(kit: Kit) -> None:
    await kit.worker()
    ref = await kit.send(SLOW, "background")
    await kit.wait_text(ref, 50)
    await kit.log.stop(ref)
    assert (await kit.ended(ref, within_s=2.0)).state == "aborted"

    async def cancelled() -> bool:
        return "responses.cancel" in [call["api"] for call in await kit.calls(ref)]

    await wait_until(cancelled, deadline_s=1.0)


async def test_a_restart_cancels_the_run_that_it_replaces(kit: Kit) -> None:
    first, second = await asyncio.gather(kit.worker(), kit.worker())
    ref = await kit.send(SLOW, "anew")
    await kit.wait_text(ref, 100)
    await (await kit.owner(ref)).kill()
    message = await kit.ended(ref)
    assert (message.state, message.text) == ("done", full_text(messages(SLOW)))
    calls = await kit.calls(ref)
    assert [call["api"] for call in calls] == ["responses", "responses.cancel", "responses"]
    assert calls[0]["outcome"] == "cancelled"
    assert first.running != second.running


async def wait_cancelled(kit: Kit, ref: MessageRef, within_s: float = 10.0) -> None:
    """Wait until the upstream has cancelled the message's first run."""

    async def cancelled() -> bool:
        return bool((await kit.calls(ref))[0]["outcome"] == "cancelled")

    await wait_until(cancelled, deadline_s=within_s)


async def test_a_stop_of_a_background_run_whose_worker_died_cancels_it_upstream(kit: Kit) -> None:
    first = await kit.worker()
    ref = await kit.send(SLOW.replace("tokens=160", "tokens=2000"), "background")
    await kit.wait_text(ref, 100)
    await first.kill()
    await kit.log.stop(ref)
    await kit.worker()
    assert (await kit.ended(ref)).state == "aborted"
    await wait_cancelled(kit, ref, within_s=3.0)


async def test_a_message_given_up_leaves_no_run_behind(kit: Kit) -> None:
    doomed = await kit.worker(TAILRACE_MAX_ATTEMPTS=1)
    ref = await kit.send(SLOW.replace("tokens=160", "tokens=2000"), "background")
    await kit.wait_text(ref, 100)
    await doomed.kill()
    await kit.worker(TAILRACE_MAX_ATTEMPTS=1)
    assert (await kit.ended(ref)).state == "failed"
    await wait_cancelled(kit, ref, within_s=3.0)


async def test_an_answer_whose_worker_dies_as_it_claims_it_is_taken_over_in_time(kit: Kit) -> None:
    """Nobody watches it, and the appointment that its start has made is far off."""
    await kit.worker(wait=False, FAILPOINT="after_claim")
    ref = await kit.send(SLOW)
    await kit.wait_attempts(ref, 1)
    await kit.worker()
    await kit.wait_attempts(ref, 2, within_s=LEASE_MS / 1000 + 2.0)


async def test_a_worker_that_is_told_to_leave_while_it_imports_its_agents_leaves(kit: Kit, tmp_path: Path) -> None:
    """The system ends it too, but not where it is process 1; there it would start, and be killed in mid-answer."""
    # It imports for longer than the test waits, so only the signal can end it.
    (tmp_path / "heavy_agent.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    kit.models = [{"name": "heavy", "kind": "agent", "agent": "heavy_agent:agent"}]
    worker = await kit.worker(wait=False, PYTHONPATH=tmp_path)
    await wait_until(lambda: "importing" in worker.output.read_text(), 20)
    assert await worker.stop(within_s=10) == 0


async def test_a_leaving_worker_hands_its_answers_over_with_the_attempt_refunded(kit: Kit) -> None:
    await asyncio.gather(*(kit.worker(TAILRACE_WORKER_DRAIN_S=60, TAILRACE_LEASE_MS=30_000) for _ in range(2)))
    ref = await kit.send(SLOW)
    await kit.wait_text(ref, 150)
    leaving = await kit.owner(ref)
    leaving.signal(signal.SIGTERM)

    async def draining() -> bool:
        return await kit.metric(leaving, "tailrace_draining") == 1

    await wait_until(draining)
    assert await leaving.stop() == 0  # the second signal cuts the window short
    await kit.wait_attempts(ref, 2, within_s=2.0)
    message = await kit.ended(ref)
    events = await kit.events(ref)
    assert (message.state, message.text) == ("done", full_text(messages(SLOW)))
    assert attempts(events) == [(1, "first", "start"), (1, "drain", "continue")]
    assert end(events).attempts == 1


async def test_a_leaving_worker_lets_answers_end_that_fit_the_window(kit: Kit) -> None:
    worker = await kit.worker(TAILRACE_WORKER_DRAIN_S=10)
    running = await kit.send("[[rate=100 tokens=100 reasoning=0]] x")
    await kit.wait_text(running, 10)
    worker.signal(signal.SIGTERM)

    async def draining() -> bool:
        return await kit.metric(worker, "tailrace_draining") == 1

    await wait_until(draining)
    late = await kit.send("[[rate=0 tokens=5]] y")
    assert (await kit.ended(running)).state == "done"
    assert await worker.wait() == 0
    assert attempts(await kit.events(running)) == [(1, "first", "start")]
    assert (await kit.meta(late)).state == "queued"


async def test_an_answer_that_was_begun_does_not_wait_behind_a_queue_of_new_ones(kit: Kit) -> None:
    leaving = await kit.worker(TAILRACE_WORKER_SLOTS=1, TAILRACE_WORKER_DRAIN_S=0)
    begun = await kit.send(SLOW)
    await kit.wait_text(begun, 150)
    waiting = [await kit.send(SLOW) for _ in range(3)]
    assert await leaving.stop() == 0
    await kit.worker(TAILRACE_WORKER_SLOTS=1)
    await kit.wait_attempts(begun, 2, within_s=3.0)
    assert [(await kit.meta(ref)).state for ref in waiting] == ["queued"] * 3


async def test_a_frozen_worker_that_wakes_writes_nothing_and_closes_its_upstream(kit: Kit) -> None:
    zombie, other = await asyncio.gather(kit.worker(), kit.worker())
    other.freeze()  # so that the first gets both
    ref = await kit.send("[[rate=60 endless=1 reasoning=0 markdown=0]] the mill")
    slow = SLOW.replace("tokens=160", "tokens=300")
    run = await kit.send(slow, "background")
    for each in (ref, run):
        await kit.wait_text(each, 100)
    zombie.freeze()
    other.thaw()
    for each in (ref, run):
        await kit.wait_attempts(each, 2)
    zombie.thaw()

    async def first_call_closed() -> bool:
        return not (await kit.calls(ref))[0]["open"]

    await wait_until(first_call_closed, deadline_s=2.0, what="the zombie's upstream call closed")
    await kit.log.stop(ref)
    message = await kit.ended(ref)
    assert message.text == full_text(messages("[[tokens=20000 reasoning=0 markdown=0]] the mill"))[: len(message.text)]

    async def given_up() -> bool:
        return await kit.metric(zombie, "tailrace_generations_total", outcome="fenced") == 2

    await wait_until(given_up, what="the zombie's attempts over")
    # What went on upstream without it is the other's: it cancels nothing.
    message = await kit.ended(run)
    assert (message.state, message.text) == ("done", full_text(messages(slow)))
    assert [call["api"] for call in await kit.calls(run)] == ["responses", "responses.retrieve"]


async def test_crashes_at_every_named_point_leave_one_end_and_one_whole_answer(kit: Kit) -> None:
    prompt = "[[rate=0 tokens=60 reasoning=0 markdown=0]] the harbour"
    ref = await kit.send(prompt)
    for point in ("after_dequeue", "after_claim", "before_finish", "after_finish"):
        doomed = await kit.worker(wait=False, FAILPOINT=point)
        assert await doomed.wait() == -signal.SIGKILL, f"{point}: {doomed.tail()}"
        if point == "after_dequeue":
            await kit.log.watch(ref, 0)  # the start's own appointment, made to come sooner
    await kit.worker()
    message = await kit.ended(ref)
    events = await kit.events(ref)
    assert (message.state, message.text) == ("done", full_text(messages(prompt)))
    assert [number for number, _, _ in attempts(events)] == [1, 2, 3]
    # One call by the worker that died before the end, one by the next; none by those after the end or before the call.
    assert len(await kit.calls(ref)) == 2


async def test_a_message_that_kills_its_workers_is_given_up(kit: Kit) -> None:
    doomed = await asyncio.gather(*(kit.worker(FAILPOINT="after_claim", TAILRACE_MAX_ATTEMPTS=2) for _ in range(2)))
    ref = await kit.send("x")
    for worker in doomed:
        assert await worker.wait(within_s=15) == -signal.SIGKILL
    await kit.worker(TAILRACE_MAX_ATTEMPTS=2)
    message = await kit.ended(ref)
    assert message.error is not None
    assert message.error.code == "worker_lost"
    assert len(await kit.calls(ref)) == 0


async def test_a_stop_of_a_message_whose_worker_died_wins_over_the_retry(kit: Kit) -> None:
    first = await kit.worker()
    ref = await kit.send(SLOW)
    await kit.wait_text(ref, 100)
    await first.kill()
    assert (await kit.log.stop(ref)).status == "stopping"
    await kit.worker()
    message = await kit.ended(ref)
    assert message.state == "aborted"
    assert len(message.text) >= 100
    assert len(await kit.calls(ref)) == 1


async def test_a_run_that_others_cancelled_for_a_stop_ends_as_stopped(kit: Kit) -> None:
    await kit.worker(TAILRACE_LEASE_MS=60_000)
    ref = await kit.send(SLOW.replace("[[", "[[fault=hang@1 "), "background")
    await kit.wait_text(ref, 1)
    # Nobody wakes the worker, and nothing is appended that could bring it the wish.
    await kit.link.call("HSET", log_keys(ref).meta, "stop", "user")
    run = next(event.id for event in await kit.events(ref) if isinstance(event, ev.Upstream))
    async with httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{kit.model.port}/v1/responses/{run}/cancel"
        assert (await client.post(url)).status_code == 200
    assert (await kit.ended(ref)).state == "aborted"


@pytest.mark.parametrize("full", [False, True])
async def test_a_stop_ends_the_background_run_of_a_dead_worker_before_its_lease_is_over(kit: Kit, full: bool) -> None:
    lease = {"TAILRACE_LEASE_MS": 30_000, "TAILRACE_WORKER_SLOTS": 1}
    endless = SLOW.replace("tokens=160", "tokens=4000")
    first = await kit.worker(**lease)
    ref = await kit.send(endless, "background")
    await kit.wait_text(ref, 50)
    await first.kill()
    await kit.worker(**lease)
    if full:
        await kit.wait_text(await kit.send(endless), 50)
    assert (await kit.log.stop(ref)).status == "stopping"
    await wait_cancelled(kit, ref)
    assert (await kit.meta(ref)).leased


async def test_a_message_whose_job_was_lost_is_found_and_run(kit: Kit) -> None:
    ref = await kit.send("[[rate=0 tokens=10 reasoning=0]] x")
    await kit.link.call("DEL", "tr:queue", "tr:due")
    await kit.worker(TAILRACE_SWEEP_S=0.5)
    assert (await kit.ended(ref)).state == "done"


async def test_a_message_that_waited_too_long_is_told_so(kit: Kit) -> None:
    ref = await kit.send("x")
    await kit.link.call("DEL", "tr:queue")
    await kit.log.watch(ref, 0)

    async def waited() -> bool:
        meta = await kit.meta(ref)
        return meta.now - meta.born > 1100

    await wait_until(waited)
    await kit.worker(TAILRACE_QUEUE_TIMEOUT_S=1)
    message = await kit.ended(ref)
    assert message.error is not None
    assert message.error.code == "queue_timeout"
