"""Owns the directed scenarios: small fleets under one kind of fault, some 20 s each, for tests and planted faults."""

from __future__ import annotations

from collections.abc import Mapping

from tests.chaos.fleet import FleetSettings
from tests.chaos.load import LoadSettings
from tests.chaos.profiles import Profile

_PLAIN = LoadSettings(sessions=10, tokens=(30, 120), other_wires=0.2, fat=0.0)


def _scenario(
    name: str,
    *windows: int,
    fault_s: float = 4,
    heal_s: float = 2.5,
    fleet: FleetSettings | None = None,
    load: LoadSettings = _PLAIN,
    floors: Mapping[str, int] | None = None,
) -> Profile:
    return Profile(
        name=name,
        warm_s=2.5,
        fault_s=fault_s,
        heal_s=heal_s,
        quiesce_s=30,
        windows=windows,
        fleet=fleet or FleetSettings(workers=2, gateways=2),
        load=load,
        floors=floors or {},
        timed=False,
    )


_ALL = (
    _scenario(
        "calm", 16, fault_s=5, floors={"stops judged": 8, "sockets": 2},
        load=LoadSettings(sessions=10, tokens=(150, 200), stops=0.5, deletes=0.2, fat=0.0, sockets=0.5),
    ),
    _scenario("kills", 3, 3, floors={"takeovers": 3, "begun anew": 1}),
    _scenario("freezes", 5, 5, floors={"fenced": 1}),
    _scenario(
        "partitions", 10, fault_s=14, floors={"takeovers": 1},
        load=LoadSettings(sessions=10, tokens=(200, 300), fat=0.0, models=("continue", "restart")),
    ),
    _scenario("links", 13, fault_s=8),
    _scenario("slow links", 19, fault_s=8),
    _scenario("doubles", 20, fault_s=5),
    _scenario("failover", 8, 8, floors={"gap repairs": 1}),
    _scenario("lost claims", 9, 9, floors={"takeovers": 1}),
    _scenario("rolls", 2, floors={"broken under clients": 1}),
    _scenario("upstream", 11, fault_s=8),
    _scenario(
        "slow",
        16,
        fault_s=10,
        load=LoadSettings(
            sessions=4, fat=1.0, fat_tokens=500_000, fat_pace="rate=50000 chunk=100", slow=24, other_wires=0,
            cutters=0, twins=0, sockets=0, stops=0, deletes=0, replaces=0,
        ),
    ),
    _scenario(
        "three kills", 18,
        load=LoadSettings(
            sessions=16, tokens=(500, 600), rate=25, other_wires=0.6, fat=0, stops=0, deletes=0, replaces=0, cutters=0.5
        ),
        floors={
            "takeovers": 24, "continued": 3, "begun anew": 3, "attached again": 3, "taken over, judged": 12,
            "superseded calls seen": 12, "sockets": 1,
        },
    ),
    _scenario("redis down", 14, heal_s=5),
    _scenario(
        "redis lost", 15, heal_s=5, fleet=FleetSettings(workers=2, gateways=2, lease_ms=17_000),
        load=LoadSettings(sessions=10, tokens=(300, 400), other_wires=0.0, fat=0.0, models=("continue", "restart")),
        floors={"restores": 3, "repairs judged": 3},
    ),
    _scenario(
        "sentinel", 17, heal_s=5, fleet=FleetSettings(workers=2, gateways=2, sentinel=True, lease_ms=10_000),
        floors={"gap repairs": 1, "repairs judged": 1},
    ),
    # every fast path off: writes through ASGI, upstreams read and appends sent by tasks
    _scenario(
        "plain", 3, 8, 13, floors={"takeovers": 2, "gap repairs": 1},
        fleet=FleetSettings(
            workers=2, gateways=2,
            env={
                "TAILRACE_DIRECT_WRITES": "false",
                "TAILRACE_DIRECT_READS": "false",
                "TAILRACE_DIRECT_APPENDS": "false",
                "TAILRACE_FLUSH_DELAY_MS": 10,
            },
        ),
    ),
)  # fmt: skip
SCENARIOS = {scenario.name: scenario for scenario in _ALL}
