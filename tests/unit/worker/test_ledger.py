"""The ledger: entries keep seq and bytes for ever; deltas join while they wait and are split when too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events as ev
from shared.cursor import Cursor
from shared.fold import fold
from shared.log.segments import SEGMENT_ENTRIES, chained
from shared.log.types import Entry
from worker.ledger import Ledger, OutputLimit

EPOCH = 1_700_000_000_000_000
CREATED = Entry(Cursor(EPOCH - 1, 1), ev.encode_event(ev.Created("c", "m", "x", 1)))
MARKER = ev.encode_event(ev.Attempt(1, "first", "start"))


def ledger(*, max_entry: int = 65_536, max_bytes: int = 1_000_000, max_entries: int = 1_000) -> Ledger:
    return Ledger([CREATED], EPOCH, MARKER, max_entry=max_entry, max_bytes=max_bytes, max_entries=max_entries)


def put_all(book: Ledger, *events: ev.Event) -> None:
    for event in events:
        book.put(event)


def test_waiting_deltas_of_one_part_become_one_entry() -> None:
    book = ledger()
    put_all(book, ev.TextStart("t"), ev.TextDelta("t", "a"), ev.TextDelta("t", "b"), ev.TextDelta("u", "c"))
    book.encode()
    put_all(book, ev.TextDelta("u", "d"))
    book.encode()
    assert list(book.events())[2:] == [
        ev.TextStart("t"),
        ev.TextDelta("t", "ab"),
        ev.TextDelta("u", "c"),
        ev.TextDelta("u", "d"),
    ]


@given(st.lists(st.text(max_size=40), max_size=10), st.integers(1024, 1100))
def test_a_delta_of_any_length_and_script_fits_its_entries_and_loses_nothing(texts: list[str], most: int) -> None:
    book = ledger(max_entry=most)
    text = "".join(texts) * 60 + "\x00\u2028😀" * 300
    put_all(book, ev.TextStart("t"), ev.TextDelta("t", text))
    book.encode()
    raws = book.unsent(2, None)
    assert max(map(len, raws)) <= most
    assert fold(ev.decode_event(raw) for raw in raws).text == text


def test_unsent_is_bounded_but_never_stuck() -> None:
    book = ledger()
    put_all(book, *(ev.Data("n", "x" * 100) for _ in range(10)))
    book.encode()
    assert len(book.unsent(2, 300)) == 2
    assert len(book.unsent(2, 1)) == 1
    assert len(book.unsent(9, None)) == 3
    assert book.unsent(12, 300) == []
    assert book.last_seq == 12


def test_entries_are_the_whole_log_under_its_own_ids() -> None:
    book = ledger()
    book.put(ev.TextStart("t"))
    book.encode()
    assert [str(entry.cursor) for entry in book.entries()] == [f"{EPOCH - 1}-1", f"{EPOCH}-2", f"{EPOCH}-3"]


def test_a_message_may_not_grow_beyond_its_bytes_or_its_entries() -> None:
    book = ledger(max_bytes=1_000)
    book.check_room(ev.TextDelta("t", "x" * 500))
    with pytest.raises(OutputLimit):
        book.check_room(ev.TextDelta("t", "é" * 500))
    for event in (ev.ToolOutputAvailable("c", "x" * 1_000), ev.Data("d", {"half": ["\ud800" * 400]})):
        with pytest.raises(OutputLimit):
            book.check_room(event)
    book.check_room(ev.ToolOutputAvailable("c", "x" * 500))
    book = ledger(max_entries=5)
    for _ in range(3):
        book.check_room(ev.StartStep())
        book.put(ev.StartStep())
    with pytest.raises(OutputLimit):
        book.check_room(ev.StartStep())


def test_what_a_reset_made_void_does_not_count() -> None:
    book = ledger(max_bytes=1_000, max_entries=6)
    put_all(book, ev.TextStart("t"), ev.TextDelta("t", "x" * 700))
    with pytest.raises(OutputLimit):
        book.check_room(ev.TextDelta("t", "y" * 700))
    put_all(book, ev.Reset(1, "worker_lost"), ev.TextStart("t"))
    book.say(ev.TextDelta("t", "y" * 700))
    with pytest.raises(OutputLimit):
        book.say(ev.TextDelta("t", "y" * 700))
    book.encode()
    heir = Ledger(book.entries(), EPOCH + 1, MARKER, max_entry=65_536, max_bytes=1_000, max_entries=6)
    heir.check_room(ev.TextDelta("t", "z" * 100))
    with pytest.raises(OutputLimit):
        heir.check_room(ev.TextDelta("t", "z" * 700))


@given(st.lists(st.tuples(st.sampled_from("tr"), st.text(max_size=40), st.booleans())))
def test_the_short_way_of_text_ends_where_the_long_way_does(said: list[tuple[str, str, bool]]) -> None:
    short, long = (ledger(max_entry=260, max_bytes=1_500, max_entries=20) for _ in range(2))
    for part, text, sends in said:
        delta = ev.TextDelta(part, text + "\ud800") if part == "t" else ev.ReasoningDelta(part, text)
        try:
            long.check_room(delta)
        except OutputLimit:
            with pytest.raises(OutputLimit):
                short.say(delta)
        else:
            long.put(delta)
            short.say(delta)
        assert short.waiting_bytes == long.waiting_bytes
        if sends:
            acked = short.last_seq
            assert acked == long.last_seq
            batch = short.next_batch(acked, 1_024)
            long.encode()
            assert batch == long.unsent(acked, 1_024)
    short.encode()
    long.encode()
    assert [entry.raw for entry in short.entries()] == [entry.raw for entry in long.entries()]
    assert not short.goes_beyond(short.last_seq)


def test_half_a_surrogate_pair_becomes_a_replacement_and_whole_ones_join() -> None:
    book = ledger()
    put_all(book, ev.TextStart("t"), ev.TextDelta("t", "a\ud83d"), ev.TextDelta("t", "\ude00b\ud83d"))
    book.encode()
    assert fold(book.events()).text == "a😀b\ufffd"


def test_what_has_no_json_form_is_refused_where_it_comes_from() -> None:
    with pytest.raises(TypeError):
        ledger().put(ev.Data("x", object()))


@pytest.mark.parametrize("levels", [201, 990, 5_000])
def test_what_is_nested_deeper_than_readers_can_decode_is_refused(levels: int) -> None:
    def nested(levels: int) -> ev.Event:
        value: list[object] = []
        for _ in range(levels - 2):
            value = [value]
        return ev.ToolOutputAvailable("c", value)

    ledger().check_room(nested(200))
    with pytest.raises(TypeError, match="200 levels"):
        ledger().check_room(nested(levels))


def deltas(count: int) -> list[ev.Event]:
    """As many as will each be an entry of its own."""
    return [ev.TextDelta("ab"[n % 2], f"{n} ") for n in range(count)]


def test_nothing_is_cut_before_it_is_acknowledged_and_enough() -> None:
    book = ledger(max_entries=10_000)
    put_all(book, *deltas(SEGMENT_ENTRIES + 500))
    book.encode()
    for acked in (0, 10, SEGMENT_ENTRIES - 1):
        assert not book.due(acked)
    assert book.due(SEGMENT_ENTRIES)
    book.cut(SEGMENT_ENTRIES - 1)
    assert book.segments == []
    book.cut(SEGMENT_ENTRIES + 200)
    assert [each.last for each in book.segments] == [Cursor(EPOCH, SEGMENT_ENTRIES)]
    assert not book.due(SEGMENT_ENTRIES + 200)


def test_cutting_changes_neither_entries_nor_what_they_amount_to() -> None:
    whole, cut = ledger(max_entries=10_000), ledger(max_entries=10_000)
    for book in (whole, cut):
        put_all(book, ev.TextStart("a"), ev.TextStart("b"))
        for n in range(5):
            put_all(book, *deltas(777), ev.Data("n", n))
            book.encode()
            if book is cut:
                book.cut(book.last_seq - 3)
    assert len(cut.segments) == 3
    assert chained([each.encode() for each in cut.segments]) == cut.segments
    assert cut.entries() == whole.entries()
    assert fold(cut.events()) == fold(whole.events())


def test_the_next_ledger_goes_on_from_its_predecessors_segments() -> None:
    first = ledger(max_entries=10_000)
    put_all(first, *deltas(2_500))
    first.encode()
    first.cut(2_500)
    how = {"max_entry": 65_536, "max_bytes": 1_000_000, "max_entries": 10_000}
    entries = first.entries()
    for known in (0, 1, 2):
        book = Ledger(entries, EPOCH + 9, MARKER, **how, segments=first.segments[:known])
        assert book.due(len(entries)) == (known < 2)
        put_all(book, *deltas(700))
        book.encode()
        book.cut(book.last_seq)
        assert book.segments[:2] == first.segments
        assert book.segments[2].last == Cursor(EPOCH + 9, 3_000)
        assert fold(book.events()) == fold(entry.event for entry in book.entries())
