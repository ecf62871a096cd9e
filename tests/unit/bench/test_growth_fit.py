"""The verdict on a growth curve: exponents come out, fixed costs do not hide them, what does not grow is said to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.bench.growth.fit import judge

WIDE = (1, 10, 100, 300, 1000, 3000, 10_000)
NARROW = (1, 2, 3, 4)


def points(of: Callable[[float], float], at: tuple[int, ...] = WIDE) -> list[tuple[float, float]]:
    return [(x, of(x)) for x in at]


@pytest.mark.parametrize("fixed", [0, 1, 500])
def test_a_straight_line_is_linear_whatever_it_costs_at_rest(fixed: float) -> None:
    verdict = judge(points(lambda x: fixed + 2 * x))
    assert verdict.word == "linear"
    assert verdict.slope == pytest.approx(1, abs=0.02)


def test_a_narrow_range_with_a_fixed_cost_is_linear_too() -> None:
    verdict = judge(points(lambda x: 30 + 4 * x, NARROW))
    assert verdict.slope == pytest.approx(1, abs=0.01)


def test_a_measured_fixed_cost_is_taken_off() -> None:
    verdict = judge(points(lambda x: 60 + x / 100), fixed=60)
    assert verdict.slope == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("fixed", [0, 1000])
@pytest.mark.parametrize("power", [1.2, 1.5, 2.0])
def test_what_grows_faster_is_flagged(power: float, fixed: float) -> None:
    verdict = judge(points(lambda x: fixed + x**power))
    assert verdict.bad
    assert verdict.slope == pytest.approx(power, abs=0.05)


def test_a_square_part_shows_where_it_dominates_only() -> None:
    assert not judge(points(lambda x: x + 1e-7 * x * x)).bad
    assert judge(points(lambda x: x + 1e-3 * x * x)).bad


def test_a_square_in_a_narrow_range_is_flagged() -> None:
    assert judge(points(lambda x: 10 + x * x, NARROW)).bad


def test_what_does_not_grow_is_flat_and_a_root_is_less_than_linear() -> None:
    assert judge(points(lambda x: 80 + x / 1000)).word == "flat"
    assert judge(points(lambda x: 80 - x / 1000)).slope is None
    assert judge(points(lambda x: x**0.5)).word == "less than linear"


def test_two_points_say_nothing() -> None:
    with pytest.raises(ValueError, match="2 points"):
        judge([(1, 1), (3, 3)])
