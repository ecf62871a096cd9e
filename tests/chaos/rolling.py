"""Rolls every worker and gateway, twice, under live streams, in the order in which Kubernetes does it.

    python -m tests.chaos.rolling [--streams 100] [--rounds 2] [--wrong no-delay|short-grace] [--seed N]

Exit code 0: nothing was lost, no start or stream failed, nobody had to be killed. With a wrong configuration, which
differs from the good one in a single value, 0 says that it failed in the way that this value is for, and in no other.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop

from tests.chaos.check.coverage import durations, percentile, server_errors
from tests.chaos.check.report import check
from tests.chaos.dump import dump, settle, take_baseline
from tests.chaos.fleet import Fleet, FleetSettings
from tests.chaos.kubelet import Cluster, Kubelet
from tests.chaos.load import Load, LoadSettings
from tests.chaos.records import Recorder
from tests.chaos.run import HISTORY, say
from tests.chaos.viewers import Client
from tests.support.processes import ROOT

Acts = Callable[[Fleet, Kubelet], Awaitable[None]]


@dataclass(slots=True)
class Outcome:
    """What a rolling restart cost."""

    violations: list[str]
    failed_starts: int
    refused_streams: int
    server_errors: int
    killed: int
    handed_over: int
    resumes: int
    broken: list[str]

    def deserved(self, wrong: str) -> bool:
        """Whether this is the outcome that the configuration deserves: nothing at all, or just what its fault costs."""
        turned_away = self.failed_starts + self.refused_streams
        if self.violations or self.broken or self.server_errors:
            return False
        if wrong == "no-delay":
            return turned_away > 0 and not self.killed
        if wrong == "short-grace":
            return self.killed > 0  # and who was sent to one of those was turned away
        return not turned_away and not self.killed


async def under_load(
    out: Path, seed: int, acts: Acts, *, streams: int, cluster: Cluster, settings: FleetSettings
) -> Outcome:
    """Do to a fleet what `acts` says while it serves `streams` viewers, and return what that cost."""
    recorder = Recorder(out / HISTORY)
    fleet = Fleet(settings, out, recorder)
    try:
        await fleet.open()
        baseline = await take_baseline(fleet)
        client = Client(fleet.balancer, recorder, random.Random(seed))
        load = Load(client, recorder, _load(streams), seed)
        kubelet = Kubelet(fleet, cluster)
        kubelet.open()
        load.open()
        while client.open_now < streams:  # noqa: ASYNC110  # nobody else needs to hear of it
            await asyncio.sleep(0.1)
        began = time.monotonic()
        await acts(fleet, kubelet)
        say(f"all done to it in {time.monotonic() - began:.1f} s, {client.open_now} streams")
        late = await load.finish(60)
        await settle(fleet, 30)
        await dump(fleet, out, baseline)
        await kubelet.close()
        broken = [repr(error) for error in load.broken] + ([f"{late} sessions did not end"] if late else [])
    finally:
        await fleet.close()
        recorder.close()
    return _outcome(out, broken)


def rounds_of(number: int) -> Acts:
    """Return what rolls all gateways and then all workers, `number` times."""

    async def roll(fleet: Fleet, kubelet: Kubelet) -> None:
        for turn in range(number):
            for role in ("gateway", "worker"):
                began = time.monotonic()
                await kubelet.roll(fleet.of(role))
                say(f"round {turn + 1}: {role}s rolled in {time.monotonic() - began:.1f} s")

    return roll


def _load(streams: int) -> LoadSettings:
    return LoadSettings(
        sessions=max(1, streams // 2), tokens=(40, 90), rate=6, other_wires=0.1, stops=0.02, deletes=0.0,
        replaces=0.02, fat=0.0, cutters=0.3, twins=0.9,
    )  # fmt: skip


def _outcome(out: Path, broken: list[str]) -> Outcome:
    world, violations = check(out)
    statuses = [status for start in world.starts for _, status in start.statuses]
    times = durations(world)
    for name, values in times.items():
        say(f"{name}: p50 {percentile(values, 0.5):.2f} s, p99 {percentile(values, 0.99):.2f} s ({len(values)})")
    return Outcome(
        violations=[f"{v.invariant} {v.where}: {v.what}" for v in violations],
        failed_starts=sum(status not in (200, 202) for status in statuses),
        refused_streams=sum(conn.status == 0 for conn in world.conns),
        server_errors=sum(server_errors(world).values()),
        killed=sum(life.how == "grace" for life in world.lives),
        handed_over=len(times["hand-over"]),
        resumes=len(times["client resume"]),
        broken=broken,
    )


SETTINGS = FleetSettings(drain_delay_s=0.0, drain_s=1.0, worker_drain_s=3.0, rotate_s=600)


def configuration(wrong: str) -> Cluster:
    """Return the good configuration, or one with a classic mistake and nothing else changed."""
    good = Cluster()
    if wrong == "no-delay":  # gone before the balancer has heard of it
        return replace(good, pre_stop_s=0.0)
    if wrong == "short-grace":  # below the workers' drain, and the preStop delay: killed in the middle of it
        return replace(good, grace_s=2.0)
    return good


def main(arguments: Sequence[str]) -> int:
    """Return 0 if the outcome is the one that the configuration deserves."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.rolling")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pods", type=int, default=3)
    parser.add_argument("--wrong", choices=("", "no-delay", "short-grace"), default="")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 10**6))
    given = parser.parse_args(arguments)
    out = ROOT / ".chaos" / f"rolling-{given.wrong or 'good'}-{given.seed}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    cluster = configuration(given.wrong)
    settings = replace(SETTINGS, workers=given.pods, gateways=given.pods)
    say(f"rolling restart, {given.wrong or 'good'} configuration, seed {given.seed}, artefacts in {out}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(
            under_load(
                out, given.seed, rounds_of(given.rounds), streams=given.streams, cluster=cluster, settings=settings
            )
        )
    say(str(outcome))
    as_deserved = outcome.deserved(given.wrong)
    say("as it should be" if as_deserved else "NOT as it should be")
    return 0 if as_deserved else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
