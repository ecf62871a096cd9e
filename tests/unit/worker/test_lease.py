"""The arithmetic of a lease, by times that are given: its owner stops a second before it can be over."""

from __future__ import annotations

from worker.lease import MARGIN_S, TTL_EVERY_S, Lease


def lease() -> Lease:
    """Return one of 8 s with a heartbeat every 2 s, claimed at 100."""
    return Lease(8000, 2000, 100.0)


def test_it_is_counted_from_the_sending_and_ends_before_the_servers() -> None:
    ours = lease()
    assert ours.left_s(100.0) == 8 - MARGIN_S == 7.0
    assert ours.left_s(107.0) == 0
    ours.confirmed(103.0)
    assert ours.left_s(107.0) == 3.0
    ours.confirmed(101.0)  # a reply that came late
    assert ours.left_s(107.0) == 3.0


def test_a_heartbeat_is_due_by_the_last_renewal() -> None:
    ours = lease()
    assert not ours.beat_due(101.9)
    assert ours.beat_due(102.0)
    ours.confirmed(102.0)
    assert not ours.beat_due(103.9)


def test_what_is_due_is_taken_once() -> None:
    ours = lease()
    assert [ours.take_watch_due(now) for now in (100.0, 100.1, 101.9, 102.0, 102.1)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    begins = 100 + TTL_EVERY_S
    assert [ours.take_ttl_due(now) for now in (begins - 0.1, begins, begins + 0.1)] == [False, True, False]
