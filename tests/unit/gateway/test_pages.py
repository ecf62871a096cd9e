"""Pages of the log: long ones of short entries, short ones of long entries."""

from __future__ import annotations

import pytest

from gateway.live.pages import FIRST_PAGE, MOST_ENTRIES, PAGE_BYTES, Page
from shared.cursor import Cursor
from shared.log.types import Entry


def page(count: int, size: int, asked: int = FIRST_PAGE) -> Page:
    return Page([Entry(Cursor(1795758565100580, seq), b"x" * size) for seq in range(1, count + 1)], asked)


@pytest.mark.parametrize("size", [1, 100, 3_000, 70_000, 5_000_000])
def test_a_viewer_that_takes_nothing_sits_on_a_bounded_page(size: int) -> None:
    then = page(FIRST_PAGE, size).then
    assert 2 <= then <= MOST_ENTRIES
    assert then * size <= max(PAGE_BYTES, 2 * size)


def test_short_entries_come_many_at_a_time() -> None:
    assert page(FIRST_PAGE, 100).then == MOST_ENTRIES


def test_a_page_is_full_when_it_has_all_that_was_asked_for() -> None:
    assert page(10, 5, asked=10).full
    assert not page(9, 5, asked=10).full
    assert not page(0, 5).full
    assert page(0, 5).then == FIRST_PAGE
