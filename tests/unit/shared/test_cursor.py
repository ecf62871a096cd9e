"""The cursor's form is strict: what Redis would take for an id of its own is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cursor import Cursor
from shared.errors import InvalidCursor

EPOCHS = st.integers(10**15, 10**16 - 1)
SEQS = st.integers(1, 10**9 - 1)


@given(EPOCHS, SEQS)
def test_a_cursor_survives_its_text(epoch: int, seq: int) -> None:
    cursor = Cursor(epoch, seq)
    assert Cursor.parse(str(cursor)) == cursor
    assert Cursor.from_redis(str(cursor).encode()) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "", "5", "-1", "$", "0", "0-0", "-", "+", ">", "*", "1763643672123456", "1763643672123456-",
        "1763643672123456-0", "1763643672123456-01", "1763643672123456--1", "1763643672123456-+1",
        "1763643672123456-1234567890", "176364367212345-1", "17636436721234567-1", "-1763643672123456-1",
        " 1763643672123456-1", "1763643672123456-1 ", "1763643672123456-1\n", "1763643672123456 -1",
        "1763643672123456-1-1", "1763643672123456-1\0", "1763643672123456_1", "1763643672123456-1.0",
        "1_63643672123456-1",
        "\u0661763643672123456-1", "1763643672123456-\u0661", "1763643672123456-\uff11", "1763643672123456\u22121",
        "earliest", "null", "(1763643672123456-1", "1763643672123456-1" * 1000,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)


@given(st.text(max_size=30))
def test_no_text_raises_anything_but_invalid_cursor(text: str) -> None:
    try:
        assert str(Cursor.parse(text)) == text
    except InvalidCursor:
        pass


def test_cursors_order_by_epoch_then_by_number() -> None:
    ordered = [Cursor(10**15, 9), Cursor(10**15, 10), Cursor(10**15 + 1, 1), Cursor(10**15 + 1, 2)]
    assert sorted(ordered, reverse=True) == ordered[::-1]
