"""Owns what a run is made of: how long its windows are, how large its load is, what it must have seen to count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.chaos.fleet import FleetSettings
from tests.chaos.load import LoadSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of run; times in seconds."""

    name: str
    warm_s: float
    fault_s: float
    heal_s: float
    quiesce_s: float
    windows: tuple[int, ...] = tuple(range(1, 13))
    fleet: FleetSettings = field(default_factory=FleetSettings)
    load: LoadSettings = field(default_factory=LoadSettings)
    floors: Mapping[str, int] = field(default_factory=dict)
    """Coverage counters and what each must reach; below, the run proves nothing and is void."""
    takeover_s: float = 4.0
    """What a takeover may take beyond the lease, at the 99th percentile."""
    resume_s: float = 3.0
    handover_s: float = 2.0
    timed: bool = True
    """Whether the percentiles decide, or are told only (as where others use the machine)."""


FULL = Profile(
    name="full",
    warm_s=20,
    fault_s=18,
    heal_s=14,
    quiesce_s=60,
    fleet=FleetSettings(lease_ms=5000, worker_drain_s=3.0, drain_s=3.0, rotate_s=60, grace_s=15),
    load=LoadSettings(sessions=24, tokens=(60, 500)),
    floors={
        "fenced": 12,
        "takeovers": 20,
        "hand-overs": 20,
        "gap repairs": 5,
        "resets": 10,
        "replays": 3,
        "stops judged": 20,
        "superseded calls seen": 20,
        "taken over, judged": 20,
        "background, judged": 20,
        "sockets": 20,
        "restores": 1,
        "resumed elsewhere": 200,
        "redispatched": 10,
    },
)
SHORT = Profile(
    name="short",
    warm_s=4,
    fault_s=4,
    heal_s=3,
    quiesce_s=40,
    load=LoadSettings(sessions=12, tokens=(30, 160)),
    floors={
        "fenced": 1,
        "takeovers": 5,
        "hand-overs": 1,
        "gap repairs": 1,
        "resets": 1,
        "replays": 1,
        "stops judged": 5,
        "superseded calls seen": 5,
        "taken over, judged": 5,
        "background, judged": 5,
        "sockets": 5,
        "resumed elsewhere": 30,
        "redispatched": 3,
    },
    timed=False,
)
PROFILES = {profile.name: profile for profile in (FULL, SHORT)}
