"""The checker by itself, on histories written by hand: what each rule forgives, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared import events as ev
from shared.events import encode_event
from tests.chaos.check.clients import check_native
from tests.chaos.check.cost import check_cost, judge
from tests.chaos.check.coverage import count, server_errors
from tests.chaos.check.excuses import held
from tests.chaos.check.logs import check_logs
from tests.chaos.check.said import check_said
from tests.chaos.check.texts import given
from tests.chaos.check.wires import check_wires
from tests.chaos.check.world import Call, Log, World, log_of
from tests.chaos.records import Ack, Act, Conn, Fault, FinalLog, Life, Loss, Probe, Start
from tests.chaos.rolling import Outcome

PLACE = ("chat", "msg")


def ack(op: str, at: float, *, epoch: int = 1, worker: str = "worker-1.1", status: str = "ok") -> Ack:
    return Ack(op, "acme/alice:chat:msg", epoch, f"t{epoch}", at, at, status, worker=worker)


def call(began: float, ended: float | None, *, number: int = 1, outcome: str = "client_gone") -> Call:
    return Call(number, "chat", began, message="msg", call=number, tokens_sent=9, ended_at=ended, outcome=outcome)


def world_of(*acks: Ack, calls: tuple[Call, ...] = (), state: str = "done", text: str = "") -> World:
    world = World()
    world.acks[PLACE] = list(acks)
    world.calls["msg"] = list(calls)
    world.logs[PLACE] = finished(state, text)
    return world


def finished(state: str, text: str) -> Log:
    events: list[ev.Event] = [ev.TextStart("t0"), ev.TextDelta("t0", text), ev.TextEnd("t0"), ev.End("done", 1)]
    entries = [(f"1-{seq}", encode_event(event).decode()) for seq, event in enumerate(events, 1)]
    return log_of(FinalLog("acme/alice", *PLACE, entries, {"st": state, "seq": str(len(entries))}))


def wrong(world: World) -> list[str]:
    return [violation.what for violation in check_cost(world)]


# -- I10


def test_a_stop_is_late_after_a_second() -> None:
    world = world_of(ack("claim", 10), calls=(call(10.1, 12.5),))
    world.acts = [Act("stop", *PLACE, 11.0, 11.2)]
    assert "went on for 1.30 s after the stop" in wrong(world)[0]
    world.calls["msg"] = [call(10.1, 12.1)]
    assert not wrong(world)
    assert [item.kind for item in judge(world)] == ["calls", "stop"]


@pytest.mark.parametrize("what", ["delete", "replace"])
def test_a_delete_and_a_replacement_are_stops_too(what: str) -> None:
    world = world_of(ack("claim", 10), calls=(call(10.1, 12.5),))
    world.acts = [Act(what, *PLACE, 11.0, 11.2)]  # type: ignore[arg-type]
    assert wrong(world)


@pytest.mark.parametrize(
    ("kind", "target", "forgiven"),
    [
        ("freeze", "worker-1", True),
        ("freeze", "worker-2", False),
        ("kill", "gateway-1", False),
        ("upstream", "429", False),
        ("stall", "machine", True),
    ],
)
def test_only_a_fault_that_made_its_owner_deaf_excuses_a_late_stop(kind: str, target: str, forgiven: bool) -> None:
    world = world_of(ack("claim", 10), calls=(call(10.1, 13.5),))
    world.acts = [Act("stop", *PLACE, 11.0, 11.2)]
    world.faults = [Fault(5, kind, target, 10.5, 13.0)]
    assert bool(wrong(world)) is not forgiven
    world.calls["msg"] = [call(10.1, 14.5)]
    assert wrong(world), "and only for as long as it lasted"


def test_a_call_that_begins_after_a_stop_is_one_too_many() -> None:
    world = world_of(ack("claim", 10), ack("claim", 15, epoch=2), calls=(call(10.1, 11.3), call(15, 16, number=2)))
    world.acts = [Act("stop", *PLACE, 11.0, 11.2)]
    assert "began 3.80 s after the stop" in wrong(world)[0]


def test_a_superseded_call_is_closed_within_a_second_of_the_later_claim() -> None:
    later = ack("claim", 20, epoch=2, worker="worker-2.1")
    world = world_of(ack("claim", 10), later, calls=(call(10.1, 21.5), call(20.1, 25, number=2, outcome="done")))
    assert "went on for 1.50 s after a later claim" in wrong(world)[0]
    world.faults = [Fault(5, "freeze", "worker-1", 15, 20.8)]
    assert not wrong(world)


def test_there_are_no_more_calls_than_claims_whatever_else_goes_on() -> None:
    calls = (call(10.1, 11), call(11.5, 12, number=2))
    world = world_of(ack("claim", 10), calls=calls)
    world.faults = [Fault(1, "kill", "worker-1", 9, 13)]
    assert wrong(world) == ["2 upstream calls for 1 claims"]
    world.calls["msg"][0].outcome = "refused:429"
    assert not wrong(world)


def run_of(number: int, began: float, ended: float) -> Call:
    return Call(number, "responses", began, "msg", background=True, response_id=f"r{number}", ended_at=ended)


def test_a_background_run_whose_creation_was_cut_off_has_no_name_to_cancel_it_by() -> None:
    world = world_of(ack("claim", 10), calls=(run_of(1, 10.1, 30), run_of(2, 10.2, 30)))
    assert len(wrong(world)) == 2  # a call too many, and one that goes on
    world.faults = [Fault(1, "upstream", "reset", 10.0, 10.15)]
    assert not wrong(world)
    world.named = {"r1"}
    assert len(wrong(world)) == 2


def test_a_background_run_is_excused_by_a_lost_claim_only_if_its_worker_is_dead() -> None:
    world = world_of(ack("claim", 10), ack("claim", 15, epoch=2), calls=(run_of(1, 10.1, 30), run_of(2, 15.1, 30)))
    world.losses = [Loss(9.9, 12.0, "tail", 14.0)]
    assert len(wrong(world)) == 1
    world.lives = [Life("worker-1", 1, 7, 0.0, ended=12.0, how="killed")]
    assert not wrong(world)


def test_a_call_that_is_open_at_rest_is_told() -> None:
    assert "open at rest" in wrong(world_of(ack("claim", 10), calls=(call(10.1, None),)))[0]


# -- data losses


def test_a_loss_excuses_nothing_that_a_living_owner_could_write_again() -> None:
    lost = Loss(15.0, 16.0, "tail", 17.0)
    world = world_of(ack("claim", 10), ack("append", 14.9))
    world.losses, world.lease_s = [lost], 8.0
    assert held(world, PLACE, lost)
    world.lives = [Life("worker-1", 1, 7, 0.0, ended=16.5)]
    assert not held(world, PLACE, lost)
    world.lives, world.lease_s = [], 2.0
    assert not held(world, PLACE, lost)


def test_an_acknowledged_entry_must_come_back_if_its_owner_lived() -> None:
    write = ack("append", 15.5)
    write.first, write.sums = 9, [1]
    world = world_of(ack("claim", 10), ack("append", 14.9), write)
    world.losses, world.lease_s = [Loss(15.0, 16.0, "tail", 17.0)], 8.0
    assert "I4" in {violation.invariant for violation in check_logs(world)}
    world.lease_s = 2.0
    assert "I4" not in {violation.invariant for violation in check_logs(world)}


def test_a_claim_while_the_lease_before_runs_is_told() -> None:
    world = world_of(ack("claim", 10), ack("append", 14.9), ack("claim", 15.5, epoch=2, worker="worker-2.1"))
    assert any("lease ended" in violation.what for violation in check_logs(world))
    world.acks[PLACE].append(ack("release", 15.2))
    assert not any("lease ended" in violation.what for violation in check_logs(world))


def test_whoever_ended_a_message_is_told_so_again() -> None:
    world = world_of(ack("claim", 10), ack("finish", 12, status="fenced"))
    assert not any("ended it" in violation.what for violation in check_logs(world))
    world.logs[PLACE].final.meta["ftok"] = "t1"
    assert any("ended it" in violation.what for violation in check_logs(world))


# -- clients


def conn(wire: str, *events: str, status: int = 200, ended: str = "clean") -> Conn:
    listed = [(12.0, "", event) for event in events]
    return Conn("v", *PLACE, wire, 11.0, status=status, closed=13.0, ended=ended, events=listed)  # type: ignore[arg-type]


@pytest.mark.parametrize("wire", ["chat_completions", "ui", "responses", "native", "websocket"])
def test_a_client_of_any_wire_that_gives_up_before_the_end_is_told(wire: str) -> None:
    world = world_of(text="so")
    world.conns = [conn(wire, ended="broken")]
    found = [*check_wires(world), *check_native(world)]
    assert ["I8"] == [violation.invariant for violation in found]


def test_204_is_no_end_for_a_client_that_has_half_of_it() -> None:
    world = world_of(text="so")
    world.conns = [conn("ui", '{"type":"text-delta","id":"t0","delta":"s"}', ended="broken"), conn("ui", status=204)]
    assert ["never saw the end of msg (last 204 clean, 0 characters)"] == [v.what for v in check_wires(world)]


def test_what_a_client_is_told_at_the_end_is_what_the_log_says() -> None:
    world = world_of(text="so")
    delta = '{"choices":[{"delta":{"content":"%s"}}]}'
    world.conns = [conn("chat_completions", delta % "so", "[DONE]")]
    assert not [*check_wires(world)]
    world.conns = [conn("chat_completions", delta % "no", "[DONE]")]
    assert "another text" in next(check_wires(world)).what
    world.conns = [conn("chat_completions", '{"error":{"code":"upstream_silent"}}')]
    assert "was told failed, and the log says done" in next(check_wires(world)).what


def test_the_text_of_an_answer_begun_anew_is_its_last_calls() -> None:
    prompt = "Tell me [[tokens=20 reasoning=0 vary=1]]"
    world = world_of(ack("claim", 10), ack("claim", 12, epoch=2), calls=(call(10, 11), call(12, 13, number=2)))
    world.prompts[PLACE] = Start(*PLACE, "native", "restart", prompt, 9.0, 9.1)
    texts = given(world, PLACE)
    assert texts is not None
    assert texts[0] != texts[1]
    for text, right in ((texts[1], True), (texts[0], False), (texts[0][:9] + texts[1][9:], False)):
        world.logs[PLACE] = finished("done", text)
        assert right is not any("text differs" in violation.what for violation in check_logs(world))


# -- what is counted


def test_every_5xx_that_a_client_saw_in_a_window_is_counted() -> None:
    world = World()
    world.faults = [Fault(2, "window", "gateway SIGTERM, rolling", 10, 20)]
    world.conns = [Conn("v", *PLACE, "websocket", 11.0, status=503, head=11.1)]
    world.starts = [Start(*PLACE, "native", "m", "p", 12, 0.0, [(12.1, 502), (12.5, 202)])]
    world.acts = [Act("stop", *PLACE, 13, 0.0, [(13.1, 500)])]
    world.probes = [Probe("nobody", 14, 503), Probe("nobody", 30, 503)]
    assert server_errors(world) == {"between": 1, "window 2": 4}


def test_an_end_fences_nobody_and_only_a_sigterm_hands_over() -> None:
    world = world_of(ack("claim", 10), ack("finish", 12, status="fenced"), ack("append", 13, status="final"))
    world.acks[PLACE].append(ack("release", 14))
    assert (count(world)["fenced"], count(world)["hand-overs"]) == (0, 0)
    world.acks[PLACE] += [ack("claim", 11, epoch=2)]
    world.lives = [Life("worker-1", 1, 7, 0.0, asked=13.5, ended=15)]
    assert (count(world)["fenced"], count(world)["hand-overs"]) == (1, 1)


def test_an_error_in_a_processs_log_is_told_and_a_warning_is_not(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    lines = [{"level": "warning", "event": "a"}, {"level": "error", "logger": "x", "event": "b"}]
    text = "\n".join(json.dumps(line) for line in lines) + "\nTraceback (most recent call last):\n"
    (tmp_path / "logs" / "worker-1.1.log").write_text(text)
    (tmp_path / "logs" / "model.log").write_text(text)
    assert [violation.invariant for violation in check_said(tmp_path)] == ["I13", "I13"]


def test_a_wrong_rolling_restart_must_fail_in_its_own_way() -> None:
    def outcome(*, failed: int = 0, refused: int = 0, killed: int = 0, broken: tuple[str, ...] = ()) -> Outcome:
        return Outcome([], failed, refused, 0, killed, 0, 0, list(broken))

    assert outcome().deserved("")
    assert not outcome(refused=1).deserved("")
    assert outcome(refused=1).deserved("no-delay")
    assert not outcome(broken=("KeyError()",)).deserved("no-delay")
    assert outcome(killed=1).deserved("short-grace")
    assert not outcome(failed=1).deserved("short-grace")
