"""Cutting bytes into events: every line ending, every place to cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.upstreams.sse import MAX_EVENT_BYTES, EventTooLong, SseSplitter

STREAM = 'data: {"a":"ü€😀"}\n\n: ping\n\nid: 7\nevent: x\ndata:{"b":1}\n\ndata: one\ndata: two\n\ndata: [DONE]\n\n'
EXPECTED = ['{"a":"ü€😀"}'.encode(), b'{"b":1}', b"one\ntwo", b"[DONE]"]


def split(pieces: list[bytes]) -> list[bytes]:
    splitter = SseSplitter()
    out = [data for piece in pieces for data in splitter.feed(piece)]
    return out + splitter.close()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_line_ending_in_segments_of_one_byte(ending: str) -> None:
    raw = STREAM.replace("\n", ending).encode()
    assert split([raw[i : i + 1] for i in range(len(raw))]) == EXPECTED
    assert split([raw]) == EXPECTED


@given(st.lists(st.integers(0, len(STREAM.encode())), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
def test_where_it_is_cut_changes_nothing(cuts: list[int], ending: str) -> None:
    raw = STREAM.replace("\n", ending).encode()
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    assert split([raw[a:b] for a, b in pairwise(places)]) == EXPECTED


def test_byte_order_mark_is_no_part_of_the_first_field() -> None:
    assert split([b"\xef", b"\xbb\xbfdata: x\n\n"]) == [b"x"]


def test_last_event_counts_without_its_blank_line() -> None:
    assert split([b"data: a\n\ndata: b"]) == [b"a", b"b"]


def test_comments_and_other_fields_are_dropped() -> None:
    assert split([b": OPENROUTER PROCESSING\n\nretry: 5\nfoo\n\n"]) == []


def test_an_event_beyond_reason_is_refused_rather_than_kept() -> None:
    piece = b"x" * 65_536
    with pytest.raises(EventTooLong):
        split([piece] * (MAX_EVENT_BYTES // len(piece) + 2))


def test_a_body_that_is_json_and_no_stream_is_one_event_however_it_is_cut() -> None:
    raw = b'{\n "a": "x\\n",\r\n "data": 1\n\n}\n'
    assert split([raw[i : i + 1] for i in range(len(raw))]) == split([raw]) == [raw]
    with pytest.raises(EventTooLong):
        split([b"{"] + [b"x" * 65_536] * (MAX_EVENT_BYTES // 65_536 + 1))
