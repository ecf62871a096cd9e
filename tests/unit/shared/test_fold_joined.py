"""Joining deltas before they are folded: same message, one copy of the text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared import events as ev
from shared.fold import Fold, fold, joined

_ids = st.sampled_from(["a", "b"])
_events: st.SearchStrategy[list[ev.Event]] = st.lists(
    st.one_of(
        st.builds(ev.TextStart, _ids),
        st.builds(ev.TextDelta, _ids, st.text(max_size=3)),
        st.builds(ev.TextEnd, _ids),
        st.builds(ev.ReasoningStart, _ids),
        st.builds(ev.ReasoningDelta, _ids, st.text(max_size=3)),
        st.builds(ev.ToolInputStart, _ids, st.just("tool")),
        st.builds(ev.ToolInputDelta, _ids, st.text(max_size=3)),
        st.builds(ev.Reset, st.just(1), st.just("worker_lost")),
        st.builds(ev.StartStep),
    ),
    max_size=30,
)


@given(_events)
def test_folding_joined_deltas_gives_the_message_of_folding_them_one_by_one(events: list[ev.Event]) -> None:
    one_by_one = Fold()
    for event in events:
        one_by_one.apply(event)
    assert fold(events) == one_by_one.message


def test_a_run_of_deltas_becomes_one_and_other_events_keep_their_place() -> None:
    events: list[ev.Event] = [
        ev.TextStart("a"),
        ev.TextDelta("a", "x"),
        ev.TextDelta("a", "y"),
        ev.TextDelta("b", "z"),
        ev.TextEnd("a"),
    ]
    assert list(joined(events)) == [
        ev.TextStart("a"),
        ev.TextDelta("a", "xy"),
        ev.TextDelta("b", "z"),
        ev.TextEnd("a"),
    ]
