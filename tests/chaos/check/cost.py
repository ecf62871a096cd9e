"""Owns what a message may cost upstream: I10, from the model's own request log.

No more calls than claims; nothing open at rest; a call whose message was stopped, replaced, deleted or claimed by
another is closed within a second. That second starts when the call's owner could hear of it (`_heard`): a fault excuses
only the worker that it hit, and only for as long as it lasted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.chaos.check.excuses import MARGIN_S
from tests.chaos.check.world import Call, Place, Violation, World
from tests.chaos.records import Ack, Act

CLOSE_S = 1.0
"""What a generation that nobody wants any more may cost."""
_DEAF = ("freeze", "partition", "links")
_AWAY = ("redis kill", "failover")
_SLACK_S = 0.05

Kind = Literal["calls", "taken over", "stop", "superseded", "background"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One thing that was looked at; `wrong` says what is, if anything; `excuse` why that is nobody's fault."""

    kind: Kind
    message: str
    wrong: str = ""
    excuse: str = ""


def check_cost(world: World) -> Iterator[Violation]:
    """Yield what is wrong."""
    for judged in judge(world):
        if judged.wrong and not judged.excuse:
            yield Violation("I10", judged.message, judged.wrong)


def judge(world: World) -> Iterator[Judged]:
    """Yield everything that can be judged, right or wrong."""
    places = {message: (chat, message) for chat, message in (*world.logs, *world.acks)}
    for message, calls in world.calls.items():
        if message in places:
            claims = sorted(_claims(world, places[message]), key=lambda claim: claim.epoch)
            yield from _made(world, message, calls, claims)
            yield from _superseded(world, places[message], calls, claims)
            yield from _background(world, places[message], calls)
    for act in world.acts:
        place = (act.chat, act.message)
        if act.accepted and place in world.acks:
            yield from _stopped(world, act, world.calls.get(act.message, []), _claims(world, place))


def _claims(world: World, place: Place) -> list[Ack]:
    return [ack for ack in world.acks[place] if ack.op == "claim"]


def _made(world: World, message: str, calls: list[Call], claims: list[Ack]) -> Iterator[Judged]:
    """Calls that failed before they said anything are repeated within an attempt, so they are not counted."""
    asked = (call for call in calls if call.api in ("chat", "responses"))
    made = [call for call in asked if not (_failed(world, call) or _nameless(world, call, None))]
    wrong = f"{len(made)} upstream calls for {len(claims)} claims" if len(made) > len(claims) else ""
    yield Judged("taken over" if len(claims) > 1 else "calls", message, wrong)
    for call in calls:
        if call.ended_at is None:
            yield Judged("calls", message, f"upstream call {call.id} is open at rest")


def _failed(world: World, call: Call) -> bool:
    """Whether the upstream broke it: by itself, or since we cut its way before it had said anything."""
    outcome = call.outcome or ""
    cut = outcome == "client_gone" and not call.tokens_sent and call.ended_at is not None
    return outcome.startswith(("refused", "fault")) or (
        cut and any(f.kind == "upstream" and f.began <= (call.ended_at or 0) <= f.healed + 1 for f in world.faults)
    )


def _nameless(world: World, call: Call, own: Ack | None) -> str:
    """Return why nobody can know the name of a background run, which then ends by itself; empty if somebody could."""
    if not call.background or call.response_id in world.named:
        return ""
    if any(fault.kind == "upstream" and fault.began <= call.received_at <= fault.healed for fault in world.faults):
        return "its creation was cut off before it had a name"
    killed = {f"{life.name}.{life.life}" for life in world.lives if life.how == "killed"}
    if own is not None and own.worker in killed and world.lossy(own.replied):
        return "its claim and its name were lost with data, and its worker is dead"
    return ""


def _superseded(world: World, place: Place, calls: list[Call], claims: list[Ack]) -> Iterator[Judged]:
    for call in calls:
        own = _owner(call, claims)
        later = next((claim for claim in claims if own is not None and claim.epoch > own.epoch), None)
        if call.background or later is None or own is None or call.ended_at is None or call.outcome == "done":
            continue  # a background run goes on by itself; the next attempt attaches to it
        heard = max(_heard(world, own, later.replied), _leased(world, place, own, later))
        wrong = f"upstream call {call.id} of {own.worker} went on for {call.ended_at - heard:.2f} s after a later claim"
        yield Judged("superseded", place[1], wrong if call.ended_at > heard + CLOSE_S else "")


def _owner(call: Call, claims: list[Ack]) -> Ack | None:
    """Return the claim that a call was made under: the last before it."""
    before = [claim for claim in claims if claim.sent <= call.received_at + _SLACK_S]
    return max(before, key=lambda claim: claim.epoch, default=None)


def _heard(world: World, own: Ack, at: float) -> float:
    """Return when `own`'s worker could hear what Redis was told at `at`: then, unless a fault made it deaf just then.

    Frozen: once it is awake. Cut off: once the way is open again, or when its lease has run out, whichever is first.
    Redis away: with the first reply that it got afterwards. The machine stood still: once it went on.
    """
    name, moments = own.worker.rpartition(".")[0], [at]
    for fault in world.faults:
        if not (fault.began - CLOSE_S <= at <= fault.healed + CLOSE_S):
            if not at <= fault.began <= at + CLOSE_S:
                continue
        if fault.kind == "stall" or (fault.kind == "freeze" and name in fault.target.split()):
            moments.append(fault.healed)
        elif fault.kind in _DEAF and name in fault.target.split():
            given_up = fault.began + world.lease_s if fault.kind == "partition" else fault.healed
            moments.append(min(fault.healed, given_up))
        elif fault.kind in _AWAY:
            latest = max(at, fault.healed) + CLOSE_S
            moments.append(_first_reply(world, own.worker, max(at, fault.began), latest))
    return max(moments)


def _leased(world: World, place: Place, own: Ack, later: Ack) -> float:
    """Return when an owner heard of a claim that a data loss made possible while its own lease still ran."""
    acks = [ack for ack in world.acks[place] if ack.epoch == own.epoch and ack.status == "ok"]
    renewed = max((ack.sent for ack in acks if ack.sent <= later.sent), default=own.sent)
    runs = renewed + world.lease_s - MARGIN_S > later.sent
    if runs and world.lossy_span(renewed - world.lease_s, later.sent):
        return _first_reply(world, own.worker, later.replied, later.replied + world.lease_s)
    return later.replied


def _first_reply(world: World, worker: str, since: float, latest: float) -> float:
    """Return when `worker` first heard from Redis after `since`, `latest` at the latest."""
    acks = (ack for acks in world.acks.values() for ack in acks if ack.worker == worker)
    return min((ack.replied for ack in acks if since <= ack.sent <= latest), default=latest)


def _background(world: World, place: Place, calls: list[Call]) -> Iterator[Judged]:
    """A run that goes on by itself ends with its message, or when another is begun in its place."""
    runs = sorted((call for call in calls if call.background and call.ended_at), key=lambda call: call.received_at)
    finished = [ack.replied for ack in world.acks[place] if ack.op == "finish" and ack.status == "ok"]
    for number, run in enumerate(runs, 1):
        unwanted = [*finished, *(follower.received_at for follower in runs[number : number + 1])]
        over = [moment for moment in unwanted if moment >= run.received_at]
        if over and run.ended_at is not None:
            late = run.ended_at > min(over) + CLOSE_S and not _failed(world, run)
            own = _owner(run, _claims(world, place))
            excuse = "the end was lost with data" if world.lossy(min(over)) else _nameless(world, run, own)
            wrong = f"background run {run.id} went on for {run.ended_at - min(over):.2f} s after its end"
            yield Judged("background", place[1], wrong if late else "", excuse)


def _stopped(world: World, act: Act, calls: list[Call], claims: list[Ack]) -> Iterator[Judged]:
    excuse = "the wish was lost with data" if world.lossy_span(act.began, act.accepted) else ""
    for call in calls:
        own = _owner(call, claims)
        if own is None or _failed(world, call) or call.api == "responses.cancel":
            continue
        heard, ended = _heard(world, own, act.accepted), call.ended_at or float("inf")
        if call.received_at > heard + CLOSE_S:
            wrong = f"upstream call {call.id} began {call.received_at - act.accepted:.2f} s after the {act.what}"
            yield Judged("stop", act.message, wrong, excuse)
        elif ended > act.accepted:
            wrong = f"upstream call {call.id} of {own.worker} went on for {ended - heard:.2f} s after the {act.what}"
            yield Judged("stop", act.message, wrong if ended > heard + CLOSE_S else "", excuse)
