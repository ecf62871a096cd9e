"""Owns what Kubernetes does to the fleet when a Deployment is rolled: endpoints by readiness, pods added and deleted.

Readiness is polled per pod (one failure takes it out); at a pod's deletion its endpoint's removal, which takes
`propagation_s` to reach the balancer, and its preStop delay begin together; then SIGTERM; SIGKILL when the grace
period, which counts from the deletion, is over; maxSurge 1, maxUnavailable 0. Its sleeps are those times: they are what
is simulated, nothing is waited for by them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.fleet import Fleet, Member
from tests.support.processes import ROOT, http_get

PROBE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What a deployment configures, and how long the news of a removed endpoint takes.

    The news takes longer than a gateway's drain and exit (some 2.7 s), as it may anywhere: a gateway that
    drains serves on, so only then does the preStop delay decide whether somebody is still sent to a pod that is gone.
    """

    pre_stop_s: float = 4.5
    propagation_s: float = 4.0
    grace_s: float = 15.0
    min_ready_s: float = 0.5


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

    async def roll(self, pods: Sequence[Member], tree: Path = ROOT) -> None:
        """Replace `pods`, one surplus at a time, by ones that run the code of `tree`; return when the old are gone."""
        for old in pods:
            self._number += 1
            new = await self._fleet.add(f"{old.role}-{self._number}", old.role, tree)
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
