"""Owns what must hold of the final logs and the workers' acks: I1, I2, I3, I4, I7, I8 and the text itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from shared import events as ev
from shared.fold import fold
from shared.message import encode_message
from tests.chaos.check.excuses import gone, lost, lost_ack
from tests.chaos.check.texts import begins, differ, given
from tests.chaos.check.world import TERMINAL, Log, Place, Violation, World
from tests.chaos.records import Ack

_LAST_WORDS = (ev.Abort, ev.Error, ev.Finish, ev.End)
_CLOCK_S = 0.01
"""Leases are counted in whole milliseconds of the server's clock."""


def check_logs(world: World) -> Iterator[Violation]:
    """Yield what is wrong."""
    for place, log in world.logs.items():
        if log.state != "deleted":
            yield from _shape(world, place, log)
            yield from _end(world, place, log)
            yield from _text(world, place, log)
    for place, acks in world.acks.items():
        yield from _acks(world, place, acks)
        yield from _fencing(world, place, acks)
        yield from _leases(world, place, acks)
        yield from _finishes(world, place, acks)
    yield from _alive(world)


def _shape(world: World, place: Place, log: Log) -> Iterator[Violation]:
    """I1: seq contiguous from 1, ids strictly rising.

    Excuse: a log that was lost with nobody left to write it again is nothing but its end.
    """
    last, first = (0, 0), 1
    if log.entries and log.entries[0][1] != 1 and _only_an_end(log) and lost(world, place, 0.0, _now(world)):
        first = log.entries[0][1]
    for expected, (epoch, seq, _) in enumerate(log.entries, first):
        if seq != expected:
            yield Violation("I1", place[1], f"entry {expected} has seq {seq}")
            return
        if (epoch, seq) <= last or epoch < last[0]:
            yield Violation("I1", place[1], f"id {epoch}-{seq} follows {last[0]}-{last[1]}")
        last = (epoch, seq)


def _only_an_end(log: Log) -> bool:
    return all(isinstance(event, _LAST_WORDS) for event in log.events)


def _now(world: World) -> float:
    """Return a moment behind everything."""
    return max((loss.back for loss in world.losses), default=0.0)


def _end(world: World, place: Place, log: Log) -> Iterator[Violation]:
    """I3: one terminal entry, the last; the record and the stored message agree with it."""
    events = log.events
    ends = [at for at, event in enumerate(events) if isinstance(event, ev.End)]
    if log.state not in TERMINAL:
        return  # I8 tells
    if ends != [len(events) - 1]:
        yield Violation("I3", place[1], f"{log.state}, with terminal entries at {ends} of {len(events)}")
        return
    end = events[-1]
    assert isinstance(end, ev.End)
    if end.state != log.state or str(log.entries[-1][1]) != log.final.meta.get("seq"):
        yield Violation("I3", place[1], f"the record says {log.state}, the log {end.state}")
    if log.entries[0][1] == 1 and encode_message(fold(events)).decode() != log.final.meta.get("final"):
        yield Violation("I3", place[1], "the stored message is not what the log amounts to")


def _text(world: World, place: Place, log: Log) -> Iterator[Violation]:
    """Whatever happened on the way, the text is the one that the model gave: to its last call, where calls differ.

    Excuse: where a claim was lost, the attempt before it may be the one that counts; never a mixture of two.
    """
    texts = given(world, place)
    if texts is None:
        return
    claims = [ack for ack in world.acks[place] if ack.op == "claim"]
    texts = texts if any(lost_ack(world, place, claim) for claim in claims) else texts[-1:]
    text = fold(log.events).text
    right = text in texts if log.state == "done" else begins(texts, text)
    if not right:
        yield Violation("I5", place[1], f"{log.state}, and its text differs at {differ(texts, text)}")


def _acks(world: World, place: Place, acks: list[Ack]) -> Iterator[Violation]:
    """I4: whatever was acknowledged is in the log, with the same bytes.

    Excuse: it was lost with the data, and its owner was no longer there to write it again.
    """
    log = world.logs.get(place)
    if log is not None and log.state == "deleted":
        return
    for ack in acks:
        if ack.status != "ok":
            continue
        for seq, checksum in enumerate(ack.sums, ack.first):
            found = log.sums.get(seq) if log is not None else None
            same = found is not None and found[1] == checksum and (ack.op == "restore" or found[0] == ack.epoch)
            if not same and not lost_ack(world, place, ack) and not world.deleted(place):
                what = f"{ack.op} of {ack.epoch}-{seq} by {ack.worker} was acknowledged; the log has {found}"
                yield Violation("I4", place[1], what)
                return


def _fencing(world: World, place: Place, acks: list[Ack]) -> Iterator[Violation]:
    """I2: one owner per epoch. I7: nothing by an owner after a later claim."""
    owners: dict[int, set[str]] = defaultdict(set)
    claims = []
    for ack in acks:
        owners[ack.epoch].add(ack.token)
        if ack.op == "claim":
            claims.append(ack)
    for epoch, tokens in owners.items():
        if len(tokens) > 1:
            yield Violation("I2", place[1], f"epoch {epoch} had {len(tokens)} owners")
    for ack in acks:
        if ack.status != "ok" or ack.op == "claim":
            continue
        later = [claim for claim in claims if claim.epoch > ack.epoch and claim.replied < ack.sent]
        if later and not any(world.lossy_span(claim.sent, claim.replied) for claim in later):
            what = f"{ack.op} of epoch {ack.epoch} at {ack.sent:.3f}, after the claim {later[0].epoch}"
            yield Violation("I7", place[1], what)
            return


def _leases(world: World, place: Place, acks: list[Ack]) -> Iterator[Violation]:
    """I2: nobody claims while the lease of the owner before surely runs, counted from when its renewal was sent.

    Excuses: it was handed over, which the marker says, or a data loss put the lease back.
    """
    log = world.logs.get(place)
    drained = {epoch for epoch, _, raw in log.entries if '"reason":"drain"' in raw} if log is not None else set()
    claims = sorted((ack for ack in acks if ack.op == "claim"), key=lambda claim: claim.epoch)
    for before, claim in pairwise(claims):
        own = [ack for ack in acks if ack.epoch == before.epoch and ack.status == "ok" and ack.sent < claim.replied]
        renewed = max((ack.sent for ack in own if ack.op in ("claim", "append", "restore")), default=before.sent)
        released = claim.epoch in drained or any(ack.op in ("release", "finish") for ack in own)
        early = renewed + world.lease_s - claim.replied
        if early > _CLOCK_S and not released and not world.lossy_span(renewed - world.lease_s, claim.replied):
            yield Violation(
                "I2", place[1], f"claimed by {claim.worker} {early:.2f} s before {before.worker}'s lease ended"
            )


def _finishes(world: World, place: Place, acks: list[Ack]) -> Iterator[Violation]:
    """I3: who has ended a message is told so, however often it asks (the first answer may be lost on its way)."""
    log = world.logs.get(place)
    for ack in acks:
        if (
            ack.op == "finish"
            and ack.status == "fenced"
            and log is not None
            and log.final.meta.get("ftok") == ack.token
        ):
            yield Violation("I3", place[1], f"{ack.worker} ended it, and was told that it is not its own")


def _alive(world: World) -> Iterator[Violation]:
    """I8: what was started has ended, and failed only where there was a reason."""
    for start in world.starts:
        place = (start.chat, start.message)
        log = world.logs.get(place)
        if world.deleted(place):
            continue
        if not start.accepted:
            yield Violation("I8", start.message or start.chat, f"was never accepted: {start.statuses[-3:]}")
        elif log is None:
            if not gone(world, place):
                yield Violation("I8", start.message, "was started and is nowhere")
        elif log.state not in (*TERMINAL, "deleted"):
            yield Violation("I8", start.message, f"is {log.state} at rest, {log.final.meta}")
        elif log.state == "failed":
            yield from _excuse(world, place, log)


def _excuse(world: World, place: Place, log: Log) -> Iterator[Violation]:
    end = log.events[-1]
    began = log.entries[-1][0] / 1e6  # the epoch of whoever wrote the end
    code = end.error.code if isinstance(end, ev.End) and end.error is not None else "?"
    upstream = any(
        fault.kind == "upstream" and call.received_at <= fault.healed and (call.ended_at or fault.began) >= fault.began
        for fault in world.faults
        for call in world.calls[place[1]]
    )
    cancelled = code == "upstream_interrupted" and _stop_forgotten(world, place)
    if cancelled or (code.startswith("upstream_") and upstream) or (code == "lost" and lost(world, place, 0.0, began)):
        return
    yield Violation("I8", place[1], f"failed with {code}, for no reason that we gave")


def _stop_forgotten(world: World, place: Place) -> bool:
    """Whether its run was cancelled for a stop, or at an end, that a data loss then took back."""
    if not any(call.background and call.outcome == "cancelled" for call in world.calls[place[1]]):
        return False
    stops = (act for act in world.acts if (act.chat, act.message) == place and act.accepted)
    ends = (ack for ack in world.acks[place] if ack.op == "finish" and ack.status == "ok")
    spans = [*((act.began, act.accepted) for act in stops), *((ack.sent, ack.replied) for ack in ends)]
    return any(world.lossy_span(began, ended) for began, ended in spans)
