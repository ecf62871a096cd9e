"""Rolls a fleet from another release to this one and back under live streams, workers killed while they are mixed.

    python -m tests.chaos.upgrade REF|FOLDER [--set NAME=VALUE ...] [--streams 100] [--pods 3] [--seed N]

The order is the runbook's: workers first on the way up, gateways first on the way back. Half of the pods are replaced,
then a worker of each release is killed, so that each takes over what the other began, then the other half is. The other
release's code is a commit of this repository, or a folder of it. Exit code 0: nothing was lost or doubled, no start or
stream failed, nobody had to be killed but those.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from tests.chaos.fleet import Fleet, Member
from tests.chaos.kubelet import Cluster, Kubelet
from tests.chaos.rolling import SETTINGS, Acts, under_load
from tests.chaos.run import say
from tests.support.processes import ROOT

SERVICES = ("gateway", "worker", "shared")


def other_release(given: str, into: Path) -> Path:
    """Return a folder with the services of the commit or folder `given`. Errors: CalledProcessError, no such commit."""
    if (Path(given) / "gateway").is_dir():
        return Path(given).resolve()
    done = subprocess.run(
        ["git", "archive", "--format=tar", given, *SERVICES], cwd=ROOT, check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(into, filter="data")
    return into


def there_and_back(other: Path) -> Acts:
    """Return what rolls a fleet of `other` to this tree and back."""

    async def roll(fleet: Fleet, kubelet: Kubelet) -> None:
        for role, tree in (("worker", ROOT), ("gateway", ROOT), ("gateway", other), ("worker", other)):
            pods = fleet.of(role)
            half = len(pods) // 2
            await kubelet.roll(pods[:half], tree)
            await _kill_one_of_each(fleet)
            await kubelet.roll(pods[half:], tree)
            say(f"{role}s run {'this release' if tree == ROOT else 'the other one'}")

    return roll


async def _kill_one_of_each(fleet: Fleet) -> None:
    """SIGKILL a worker of each release that there is, one after the other, and begin a new life of it."""
    one_of_each: dict[Path, Member] = {member.tree: member for member in fleet.workers}
    for member in one_of_each.values():
        await fleet.kill(member)
        await fleet.restart(member)


def main(arguments: Sequence[str]) -> int:
    """Return 0 if nobody noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.upgrade")
    parser.add_argument("other")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of both releases")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--pods", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(1, 10**6))
    given = parser.parse_args(arguments)
    out = ROOT / ".chaos" / f"upgrade-{given.seed}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    other = other_release(given.other, out / "other")
    settings = replace(
        SETTINGS,
        workers=given.pods,
        gateways=given.pods,
        tree=other,
        env=dict(each.split("=", 1) for each in given.set),
    )
    say(f"from {given.other} to this release and back, seed {given.seed}, artefacts in {out}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(
            under_load(
                out, given.seed, there_and_back(other), streams=given.streams, cluster=Cluster(), settings=settings
            )
        )
    say(str(outcome))
    went_well = outcome.deserved("")
    say("as it should be" if went_well else "NOT as it should be")
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
