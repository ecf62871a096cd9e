"""Owns what an injected data loss excuses: only what nobody still had who could have written it again.

A worker keeps the log of its message in memory and writes again what Redis lost, as long as its lease lasts. So a loss
excuses nothing of a message whose owner lived, was awake and had a lease that reached beyond the outage (`held`).
"""

from __future__ import annotations

from tests.chaos.check.world import Place, World
from tests.chaos.records import Ack, Loss

MARGIN_S = 1.0
"""So long before its lease can end an owner gives up by itself (`worker.lease`)."""
RECONNECT_S = 2.0
"""What a worker may need until its link stands again and the repair is written."""


def held(world: World, place: Place, loss: Loss) -> bool:
    """Whether the message had an owner that must have written it again after `loss`."""
    whole = loss.what == "everything"
    since = loss.ended if whole else loss.began  # what the heir knows of the lease is as old as its last update
    claims = [ack for ack in world.acks.get(place, ()) if ack.op == "claim" and ack.replied <= since]
    if not claims:
        return False
    owner = max(claims, key=lambda claim: claim.epoch)
    own = [ack for ack in world.acks[place] if ack.epoch == owner.epoch and ack.status == "ok"]
    if any(ack.op in ("finish", "release") and ack.sent <= loss.back for ack in own):
        return False
    if any(ack.op == "claim" and ack.epoch > owner.epoch and ack.sent <= loss.back for ack in world.acks[place]):
        return False
    lease_ends = max(ack.sent for ack in own if ack.sent <= since) + world.lease_s - MARGIN_S
    repaired = loss.back + RECONNECT_S + world.stalled_s(since, loss.back + RECONNECT_S)
    awake = not _disabled(world, owner.worker, since, repaired)
    return lease_ends > repaired and awake and not _ended_by_others(world, place, loss)


def _disabled(world: World, worker: str, began: float, ended: float) -> bool:
    """Whether that worker died, was told to end, was frozen or cut off meanwhile."""
    name, _, number = worker.rpartition(".")
    for life in world.lives:
        if (life.name, str(life.life)) == (name, number):
            ends = [moment for moment in (life.asked, life.ended) if moment]
            if ends and min(ends) <= ended:
                return True
    return any(
        fault.began <= ended
        and fault.healed >= began
        and fault.kind in ("freeze", "partition")
        and name in fault.target.split()
        for fault in world.faults
    )


def _ended_by_others(world: World, place: Place, loss: Loss) -> bool:
    """Whether somebody stopped, replaced or deleted it about then: what a stop's end needs is not the whole log."""
    return any(
        (act.chat, act.message) == place and act.began <= loss.back + RECONNECT_S for act in world.acts
    )  # fmt: skip


def lost(world: World, place: Place, began: float, ended: float) -> bool:
    """Whether what Redis acknowledged of a message between these moments may be lost for good."""
    return any(
        loss.began <= ended and began <= loss.ended and not held(world, place, loss) for loss in world.losses
    )  # fmt: skip


def lost_ack(world: World, place: Place, ack: Ack) -> bool:
    """Whether an acknowledged write may be missing from the final log."""
    return lost(world, place, ack.sent, ack.replied)


def gone(world: World, place: Place) -> bool:
    """Whether a message that was started may be nowhere: its creation was lost, and nobody had it any more."""
    start = world.prompts.get(place)
    return start is not None and lost(world, place, start.began, start.accepted)
