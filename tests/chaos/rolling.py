"""Rolls every worker and gateway, twice, under live streams, in the order in which Kubernetes does it.

    python -m tests.chaos.rolling [--streams 100] [--rounds 2] [--wrong no-delay|short-grace] [--seed N]

Readiness is polled per pod (one failure takes it out); at a pod's deletion its endpoint's removal, which takes
`propagation_s` to reach the balancer, and its preStop delay begin together; then SIGTERM; SIGKILL when the grace
period, which counts from the deletion, is over; maxSurge 1, maxUnavailable 0. Exit code 0: nothing was lost, no start
or stream failed, nobody had to be killed. With a wrong configuration, which differs from the good one in a single
value, 0 says that it failed in the way that this value is for, and in no other.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop

from tests.chaos.check.coverage import durations, percentile, server_errors
from tests.chaos.check.report import check
from tests.chaos.dump import dump, settle, take_baseline
from tests.chaos.fleet import Fleet, FleetSettings, Member
from tests.chaos.load import Load, LoadSettings
from tests.chaos.records import Recorder
from tests.chaos.run import HISTORY, say
from tests.chaos.viewers import Client
from tests.support.processes import ROOT, http_get

PROBE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What a deployment configures, and how long the news of a removed endpoint takes.

    The news takes longer than a gateway's drain and exit (`_SETTINGS`; some 2.7 s), as it may anywhere: a gateway that
    drains serves on, so only then does the preStop delay decide whether somebody is still sent to a pod that is gone.
    """

    pre_stop_s: float = 4.5
    propagation_s: float = 4.0
    grace_s: float = 15.0
    min_ready_s: float = 0.5


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


class Kubelet:
    """Adds and deletes pods as a Deployment's controller, a kubelet and kube-proxy would."""

    def __init__(self, fleet: Fleet, cluster: Cluster) -> None:
        self._fleet = fleet
        self._cluster = cluster
        self._leaving: set[str] = set()
        self._endpoints: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 100
        fleet.balance_by_readiness = False

    def open(self) -> None:
        """Begin to probe."""
        self._endpoints = {member.name: member.port for member in self._fleet.gateways}
        self._publish()
        self._spawn(self._probing())

    async def close(self) -> None:
        """Stop probing and wait for pods that are on their way out."""
        for task in tuple(self._tasks):
            if task.get_name() == "probing":
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def roll(self, role: str) -> None:
        """Replace every pod of a deployment, one surplus at a time."""
        for old in [member for member in self._fleet.members.values() if member.role == role]:
            self._number += 1
            new = await self._fleet.add(f"{role}-{self._number}", role)
            await self._fleet.ready(new)
            await asyncio.sleep(self._cluster.min_ready_s)
            self._spawn(self._delete(old))
        while any(task.get_name() != "probing" for task in self._tasks):
            await asyncio.wait([task for task in self._tasks if task.get_name() != "probing"])

    async def _delete(self, member: Member) -> None:
        cluster, began = self._cluster, time.monotonic()
        self._leaving.add(member.name)
        removal = asyncio.create_task(self._remove_endpoint(member))
        if member.role == "gateway":
            await asyncio.sleep(min(cluster.pre_stop_s, cluster.grace_s))
        await self._fleet.terminate(member, max(0.1, cluster.grace_s - (time.monotonic() - began)))
        await removal
        for pipe in member.pipes.values():
            await pipe.close()
        del self._fleet.members[member.name]

    async def _remove_endpoint(self, member: Member) -> None:
        await asyncio.sleep(self._cluster.propagation_s)
        self._endpoints.pop(member.name, None)
        self._publish()

    async def _probing(self) -> None:
        while True:
            await asyncio.gather(*(self._probe(member) for member in self._fleet.gateways))
            await asyncio.sleep(PROBE_EVERY_S)

    async def _probe(self, member: Member) -> None:
        status, _ = await http_get(member.port, "/readyz")
        if member.name in self._leaving:
            return
        if status == 200 and member.name not in self._endpoints:
            await asyncio.sleep(0)
            self._endpoints[member.name] = member.port
        elif status != 200 and member.name in self._endpoints:
            self._spawn(self._remove_endpoint(member))
        self._publish()

    def _publish(self) -> None:
        self._fleet.balancer.endpoints = [(name, ("127.0.0.1", port)) for name, port in self._endpoints.items()]

    def _spawn(self, work: object) -> None:
        name = "probing" if getattr(work, "__name__", "") == "_probing" else "pod"
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def rolling(
    out: Path, seed: int, *, streams: int, rounds: int, cluster: Cluster, settings: FleetSettings
) -> Outcome:
    """Run it and return what it cost."""
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
        for number in range(rounds):
            for role in ("gateway", "worker"):
                began = time.monotonic()
                await kubelet.roll(role)
                say(
                    f"round {number + 1}: {role}s rolled in {time.monotonic() - began:.1f} s, {client.open_now} streams"
                )
        late = await load.finish(60)
        await settle(fleet, 30)
        await dump(fleet, out, baseline)
        await kubelet.close()
        broken = [repr(error) for error in load.broken] + ([f"{late} sessions did not end"] if late else [])
    finally:
        await fleet.close()
        recorder.close()
    return _outcome(out, broken)


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


_SETTINGS = FleetSettings(drain_delay_s=0.0, drain_s=1.0, worker_drain_s=3.0, rotate_s=600)


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
    settings = replace(_SETTINGS, workers=given.pods, gateways=given.pods)
    say(f"rolling restart, {given.wrong or 'good'} configuration, seed {given.seed}, artefacts in {out}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(
            rolling(out, given.seed, streams=given.streams, rounds=given.rounds, cluster=cluster, settings=settings)
        )
    say(str(outcome))
    as_deserved = outcome.deserved(given.wrong)
    say("as it should be" if as_deserved else "NOT as it should be")
    return 0 if as_deserved else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
