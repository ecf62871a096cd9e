"""What a message has cost, as its log tells it: nothing twice, nothing guessed, and whether something is lacking."""

from __future__ import annotations

import pytest

from shared import events as ev
from shared.log.usage import Spending, usage_metadata

START = ev.Attempt(1, "first", "start")
RESTART = ev.Attempt(2, "worker_lost", "restart")
REATTACH = ev.Attempt(2, "worker_lost", "reattach")
CONTINUE = ev.Attempt(2, "worker_lost", "continue")
RESET = ev.Reset(1, "worker_lost")


def sum_of(tokens: int, *, incomplete: bool = False) -> ev.Usage:
    return ev.Usage(0, tokens, tokens, incomplete=True) if incomplete else ev.Usage(0, tokens, tokens)


def far(tokens: int) -> ev.UsageSoFar:
    return ev.UsageSoFar(sum_of(tokens))


def finish(tokens: int) -> ev.Finish:
    return ev.Finish("stop", usage_metadata(sum_of(tokens)))


@pytest.mark.parametrize(
    ("events", "known"),
    [
        ([], None),
        ([START], None),
        ([START, ev.Finish("stop")], None),
        ([START, finish(9)], sum_of(9)),
        ([START, far(5), finish(9)], sum_of(9)),
        ([START, far(5), RESTART, RESET, far(9)], sum_of(9)),
        ([START, far(5), RESTART, RESET], sum_of(5, incomplete=True)),
        ([START, RESTART, RESET, far(9)], sum_of(9, incomplete=True)),
        ([START, CONTINUE, finish(9)], sum_of(9, incomplete=True)),
        # Whoever only writes the end calls nobody.
        ([START, finish(9), CONTINUE, CONTINUE], sum_of(9)),
        # A run that is attached to again is one call.
        ([START, ev.Upstream("r"), REATTACH, finish(9)], sum_of(9)),
        ([START, ev.Upstream("r"), REATTACH, RESET, finish(9)], sum_of(9, incomplete=True)),
        # An agent's own metadata is not a report.
        ([START, ev.MessageMetadata({"usage": {"totalTokens": 9}})], None),
    ],
)
def test_what_the_log_tells(events: list[ev.Event], known: ev.Usage | None) -> None:
    assert Spending(events).known() == known


def test_what_is_reported_now_is_added() -> None:
    spending = Spending([START, far(5), RESTART])
    assert spending.known() == sum_of(5, incomplete=True)
    spending.add(sum_of(3))
    spending.add(sum_of(2))
    assert spending.known() == sum_of(10)


def test_a_run_attached_to_again_is_not_counted_twice() -> None:
    spending = Spending([START, far(5), RESTART, RESET, ev.Upstream("r"), far(8), REATTACH])
    assert spending.known() == sum_of(8)
    spending.add(sum_of(3))
    assert spending.known() == sum_of(8)


def test_a_run_that_could_not_be_attached_to_stays_counted() -> None:
    spending = Spending([START, ev.Upstream("r"), far(3), REATTACH])
    spending.apply(RESET)
    spending.add(sum_of(4))
    assert spending.known() == sum_of(7)
