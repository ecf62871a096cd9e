"""Segments: the same fold at every cut and with every event, in a form that survives what it is not."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from shared import events as ev
from shared.cursor import Cursor
from shared.fold import Delta, Fold, fold, joined
from shared.log.segments import Segment, chained, decode_segment, fitting, make_segment
from shared.log.types import Entry
from shared.message import encode_message
from tests.support.events import ANY_EVENT
from tests.support.log import segments_of

EPOCH = 1_700_000_000_000_000
_DELTA_ID = st.sampled_from(["a", "b", 'q"', "s\\", '","delta":"', "\u2028"])
_DELTA_TEXT = st.text(max_size=4) | st.sampled_from(['"', "\\", '\\"', '"}', '","delta":"', "\u2028\u0085", "😀"])
_RUNS = st.lists(
    st.builds(ev.TextDelta, _DELTA_ID, _DELTA_TEXT)
    | st.builds(ev.ReasoningDelta, _DELTA_ID, _DELTA_TEXT)
    | st.builds(ev.ToolInputDelta, _DELTA_ID, _DELTA_TEXT),
    max_size=6,
)
_EVENTS = st.lists(_RUNS | st.lists(ANY_EVENT, max_size=3), max_size=8).map(
    lambda runs: [e for run in runs for e in run]
)
_OPENED: list[ev.Event] = [
    *(ev.TextStart(part) for part in ("a", "b", 'q"', "s\\", '","delta":"', "\u2028")),
    *(ev.ReasoningStart(part) for part in ("a", 'q"')),
    ev.ToolInputStart("a", "f"),
]


def entries_of(events: list[ev.Event]) -> list[Entry]:
    return [Entry(Cursor(EPOCH, seq), ev.encode_event(event)) for seq, event in enumerate(events, 1)]


def segment(*payloads: bytes) -> Segment:
    return make_segment(None, Cursor(EPOCH, len(payloads)), payloads)


@given(_EVENTS, st.data())
def test_segments_and_the_tail_fold_to_what_everything_folds_to_at_every_cut(
    events: list[ev.Event], data: st.DataObject
) -> None:
    entries = entries_of([*_OPENED, *events])
    cuts = sorted(data.draw(st.sets(st.integers(1, len(entries)), max_size=4)))
    stored = chained([each.encode() for each in segments_of(entries, *cuts)])
    assert len(stored) == len(cuts)
    behind = entries[cuts[-1] :] if cuts else entries
    shortened = Fold()
    shortened.extend(event for each in stored for event in each.events())
    shortened.extend(entry.event for entry in behind)
    one_by_one = Fold()
    for entry in entries:
        one_by_one.apply(entry.event)
    assert encode_message(shortened.message) == encode_message(one_by_one.message)


@given(_EVENTS)
def test_joining_changes_nothing_but_runs_of_deltas(events: list[ev.Event]) -> None:
    payloads = [ev.encode_event(event) for event in events]
    lines = segment(*payloads).lines

    def others(raws: Iterable[bytes]) -> list[bytes]:
        return [raw for raw in raws if not isinstance(ev.decode_event(raw), Delta)]

    assert others(lines) == others(payloads)
    assert [ev.decode_event(raw) for raw in lines] == list(joined(map(ev.decode_event, payloads)))


def test_a_run_becomes_one_line_with_the_bytes_that_the_whole_text_has() -> None:
    texts = ["one ", 'a "quoted" word', "\\", "é\u2028", "\n", "}"]
    lines = segment(*(ev.encode_event(ev.TextDelta("t", text)) for text in texts)).lines
    assert lines == (ev.encode_event(ev.TextDelta("t", "".join(texts))),)


def test_deltas_in_another_form_stay_as_they_are() -> None:
    """Another release, or another implementation, may write members of its own or in another order."""
    odd = [
        b'{"type":"text-delta","id":"t","delta":"a","extra":"x"}',
        b'{"type":"text-delta","delta":"b","id":"t"}',
        b'{"type":"text-delta","id":"t","delta":"c" }',
        b'{"type":"text-delta","id":"t","delta":"d","n":1}',
    ]
    plain = b'{"type":"text-delta","id":"t","delta":"%b"}'
    payloads = [b'{"type":"text-start","id":"t"}', plain % b"1", *(raw for each in odd for raw in (plain % b"-", each))]
    lines = segment(*payloads).lines
    assert [raw for raw in lines if raw in odd] == odd
    assert fold(map(ev.decode_event, lines)) == fold(map(ev.decode_event, payloads))
    assert fold(map(ev.decode_event, lines)).text == "1-a-b-c-d"


def test_a_segment_is_read_as_it_was_written() -> None:
    for after in (None, Cursor(EPOCH, 3)):
        for payloads in ([], [b'{"type":"x"}'], [b"", b'{"type":"y"}']):
            made = make_segment(after, Cursor(EPOCH, 9), payloads)
            assert decode_segment(made.encode()) == made


@given(st.binary(max_size=60))
def test_whatever_is_no_segment_is_read_as_none(row: bytes) -> None:
    found = decode_segment(row)
    assert found is None or found.encode() == row


def test_only_what_ends_in_the_log_fits_it() -> None:
    entries = entries_of([ev.StartStep()] * 6)
    segments = segments_of(entries, 2, 4, 6)
    assert fitting(segments, entries) == segments
    assert fitting(segments, entries[:5]) == segments[:2]
    other = [*entries[:3], *(Entry(Cursor(EPOCH + 7, each.cursor.seq), each.raw) for each in entries[3:])]
    assert fitting(segments, other) == segments[:1]
    assert fitting(segments, []) == []
