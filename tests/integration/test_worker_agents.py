"""A user's own agent behind a dotted path: the same log, the same guarantees."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared import events as ev
from shared.message import SourceUrlPart, ToolPart
from tests.integration.worker_kit import Kit, attempts, open_kit
from tests.support.redis import RedisServer
from tests.support.wait import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAMES = (
    "weather", "broken", "self_cancelled", "verbose", "busy", "giving_up", "careful", "costly", "deadly", "mute",
    "quitting", "stubborn",
)  # fmt: skip
RECOVERY = {"deadly": "auto"}
MOST_ENTRIES = 500
LIMITED = {"TAILRACE_MAX_MESSAGE_ENTRIES": MOST_ENTRIES}
"""What every worker of this file is told: any may get any message."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kit(emptied_redis: RedisServer) -> AsyncIterator[Kit]:
    """Two workers that know the agents."""
    async with open_kit(emptied_redis.url) as kit:
        kit.models = [
            {
                "name": name,
                "kind": "agent",
                "agent": f"tests.integration.worker_agents:{name}",
                "recovery": RECOVERY.get(name, "restart"),
            }
            for name in NAMES
        ]
        await asyncio.gather(*(kit.worker(**LIMITED) for _ in range(2)))
        yield kit


async def test_an_agent_with_a_tool_call(kit: Kit) -> None:
    ref = await kit.send("Bergen", "weather")
    message = await kit.ended(ref)
    names = [type(event).__name__ for event in await kit.events(ref)]
    assert message.state == "done"
    assert message.text == "It is 21 degrees."
    tool = next(part for part in message.parts if isinstance(part, ToolPart))
    assert (tool.state, tool.input, tool.output) == ("output-available", {"place": "Bergen"}, {"degrees": 21})
    assert any(isinstance(part, SourceUrlPart) for part in message.parts)
    assert message.usage == ev.Usage(30, 10, 40)
    assert names.count("StartStep") == names.count("FinishStep") == 2


async def test_an_agents_exception_ends_the_message_without_its_words(kit: Kit) -> None:
    ref = await kit.send("my prompt", "broken")
    message = await kit.ended(ref)
    assert message.error is not None
    assert message.error.code == "agent_error"
    assert message.text == "so far"
    said = b"".join(entry.raw for entry in await kit.log.read_all(ref))
    assert b"secret" not in said
    for worker in kit.workers.values():
        assert "my prompt" not in worker.output.read_text()


async def test_a_cancellation_of_the_agents_own_is_its_failure(kit: Kit) -> None:
    ref = await kit.send("x", "self_cancelled")
    message = await kit.ended(ref)
    assert message.error is not None
    assert (message.state, message.error.code, message.text) == ("failed", "agent_error", "so far")
    assert attempts(await kit.events(ref)) == [(1, "first", "start")]


async def test_a_tool_that_calls_for_the_end_of_the_process_is_its_agents_failure(kit: Kit) -> None:
    """In a task of its own, too; and the other answers of that worker go on."""
    other = await kit.send("x", "careful")

    async def paid() -> bool:
        return any(isinstance(event, ev.ToolOutputAvailable) for event in await kit.events(other))

    await wait_until(paid)
    refs = [await kit.send("x", "quitting") for _ in range(6)]
    for ref in refs:
        message = await kit.ended(ref)
        assert message.error is not None
        assert (message.error.code, message.text) == ("agent_error", "so far")
        assert attempts(await kit.events(ref)) == [(1, "first", "start")]
    workers = list(kit.workers.values())
    assert all(worker.running for worker in workers)
    assert not (await kit.meta(other)).terminal
    assert attempts(await kit.events(other)) == [(1, "first", "start")]
    await kit.log.stop(other)
    assert (await kit.ended(other)).state == "aborted"
    await asyncio.gather(kit.worker(**LIMITED), kit.worker(**LIMITED))
    assert await asyncio.gather(*(worker.stop() for worker in workers)) == [0, 0]  # they hear their signals as before


async def test_an_output_is_one_entry_of_any_size_that_the_message_has_room_for(kit: Kit) -> None:
    whole = await kit.send("200000", "verbose")
    assert (await kit.ended(whole)).text == "read"
    beyond = await kit.send("5000000", "verbose")
    message = await kit.ended(beyond)
    assert message.error is not None
    assert (message.error.code, message.text) == ("output_limit", "")
    assert sum(len(entry.raw) for entry in await kit.log.read_all(beyond)) < 4096
    tool = next(part for part in message.parts if isinstance(part, ToolPart))
    assert tool.output is None


async def test_a_message_ends_at_the_limit_of_its_entries(kit: Kit) -> None:
    ref = await kit.send("x", "busy")
    message = await kit.ended(ref)
    assert message.error is not None
    assert message.error.code == "output_limit"
    # The last words and the end are written all the same.
    assert MOST_ENTRIES <= len(await kit.log.read_all(ref)) <= MOST_ENTRIES + 10


async def test_an_agents_own_error_is_told_in_its_words(kit: Kit) -> None:
    message = await kit.ended(await kit.send("x", "giving_up"))
    assert message.error == ev.Failure("agent_error", "The archive is closed today.")


async def test_a_restarted_agent_sees_what_it_did_before(kit: Kit) -> None:
    ref = await kit.send("x", "careful")

    async def paid() -> bool:
        return any(isinstance(event, ev.ToolOutputAvailable) for event in await kit.events(ref))

    await wait_until(paid)
    await (await kit.owner(ref)).kill()
    message = await kit.ended(ref)
    assert message.text == "attempt 2"
    tool = next(part for part in message.parts if isinstance(part, ToolPart))
    assert tool.output == "paid before"
    assert [mode for _, _, mode in attempts(await kit.events(ref))] == ["start", "restart"]


async def test_a_tool_that_kills_its_worker_is_not_run_by_the_next_one(kit: Kit, tmp_path: Path) -> None:
    await kit.worker(**LIMITED)
    ledger = tmp_path / "ledger"
    ref = await kit.send(str(ledger), "deadly")
    message = await kit.ended(ref)
    assert message.error is not None
    assert message.error.code == "worker_lost"
    assert attempts(await kit.events(ref)) == [(1, "first", "start")]
    assert ledger.read_text() == "paid\n"
    tool = next(part for part in message.parts if isinstance(part, ToolPart))
    assert (tool.tool_name, tool.state) == ("pay", "input-available")


async def test_what_a_killed_attempt_had_reported_is_summed(kit: Kit) -> None:
    ref = await kit.send("x", "costly")
    await kit.wait_text(ref, 5)
    await (await kit.owner(ref)).kill()
    await kit.worker(**LIMITED)
    message = await kit.ended(ref)
    assert message.text == "attempt 2 done"
    assert message.usage == ev.Usage(40, 15, 55)


async def test_a_stopped_message_tells_what_all_attempts_reported(kit: Kit) -> None:
    ref = await kit.send("forever", "costly")
    await kit.wait_text(ref, 5)
    await (await kit.owner(ref)).kill()
    await kit.worker(**LIMITED)

    async def second_speaks() -> bool:  # what the first one said is in the log, too
        return any(isinstance(event, ev.TextDelta) and "attempt 2" in event.delta for event in await kit.events(ref))

    await wait_until(second_speaks)
    await kit.log.stop(ref)
    message = await kit.ended(ref)
    assert (message.state, message.usage) == ("aborted", ev.Usage(20, 10, 30))


async def test_a_killed_attempt_that_had_reported_nothing_makes_the_sum_incomplete(kit: Kit) -> None:
    ref = await kit.send("x", "mute")
    await kit.wait_text(ref, 5)
    await (await kit.owner(ref)).kill()
    await kit.worker(**LIMITED)
    message = await kit.ended(ref)
    assert message.usage == ev.Usage(20, 5, 25, incomplete=True)


async def test_an_agent_that_cannot_be_cancelled_does_not_keep_its_worker_from_leaving(kit: Kit) -> None:
    ref = await kit.send("x", "stubborn")
    await kit.wait_text(ref, 5)
    leaving = await kit.owner(ref)
    await kit.worker(**LIMITED)
    leaving.signal(signal.SIGTERM)

    async def draining() -> bool:
        return await kit.metric(leaving, "tailrace_draining") == 1

    await wait_until(draining)
    leaving.signal(signal.SIGTERM)  # the second one cuts the window short
    assert await leaving.wait(within_s=20) == 0
    await kit.wait_attempts(ref, 2)
    await kit.log.delete(ref)
