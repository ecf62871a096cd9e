"""What keeps the scripted model small for ever, and its README complete."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.scripted_model import directives, faults
from deploy.scripted_model.journal import Journal
from deploy.scripted_model.records import Record, Records
from deploy.scripted_model.refusal import Refused
from deploy.scripted_model.response_frames import ResponseForm, ResponseFrames
from deploy.scripted_model.settings import MAX_JOURNAL_ENTRIES, MAX_KEYS, MAX_LIVE_STREAMS, MAX_RESPONSES, Settings
from deploy.scripted_model.watch import Watch
from deploy.scripted_model.world import KeyCounter, World

README = (Path(directives.__file__).parent / "README.md").read_text()


def record(number: int) -> Record:
    form = ResponseForm(response_id=f"resp_{number}", created_at=0, model="m", input_tokens=1)
    return Record(ResponseFrames(form), Watch())


def test_the_journal_drops_its_oldest_entries() -> None:
    journal = Journal()
    for _ in range(MAX_JOURNAL_ENTRIES + 5):
        journal.begin("chat", {})
    kept = journal.since(0)
    assert (len(kept), kept[0].id, journal.last_id) == (MAX_JOURNAL_ENTRIES, 6, MAX_JOURNAL_ENTRIES + 5)


def test_the_counters_forget_the_keys_unused_for_longest() -> None:
    counter = KeyCounter()
    for number in range(MAX_KEYS + 1):
        counter.next(str(number))
    assert (counter.next(str(MAX_KEYS)), counter.next("0")) == (2, 1)


async def test_ended_responses_make_room_and_live_ones_stay() -> None:
    records = Records()
    live = record(0)
    records.add(live)
    for number in range(1, MAX_RESPONSES + 2):
        ended = record(number)
        ended.end()
        records.add(ended)
    assert records.get("resp_0") is live
    assert records.get("resp_1") is None
    assert records.get(f"resp_{MAX_RESPONSES + 1}") is not None


async def test_a_stream_too_many_is_refused_and_others_stay() -> None:
    world = World(Settings())
    with ExitStack() as streams:
        for _ in range(MAX_LIVE_STREAMS):
            streams.enter_context(world.living(Watch()))
        with pytest.raises(Refused) as refused:
            streams.enter_context(world.living(Watch()))
        assert (refused.value.status, world.live) == (429, MAX_LIVE_STREAMS)
    assert world.live == 0


def test_every_directive_and_fault_is_in_the_readme() -> None:
    missing = [name for name in directives.NAMES if f"`{name}=" not in README]
    missing += [name for name in faults.FORMS if f"`{name}`" not in README]
    missing += [name for name in (*faults.CUTS, faults.HUGE) if f"`{name}@N`" not in README]
    missing += [mode for mode in faults.SwitchMode if mode not in README]
    assert missing == []


@pytest.mark.parametrize("wrong", [{"port": 70_000}, {"tokens": -1}, {"rate": -0.5}])
def test_settings_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="--"):
        Settings(**wrong)  # type: ignore[arg-type]  # the point of the test
