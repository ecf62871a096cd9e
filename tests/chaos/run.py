"""Owns one run from the first process to the last artefact; the checking is done afterwards, from the artefacts."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from tests.chaos.dump import dump, settle, take_baseline
from tests.chaos.fleet import Fleet
from tests.chaos.load import Load
from tests.chaos.nemesis import Nemesis
from tests.chaos.profiles import Profile
from tests.chaos.records import Recorder
from tests.chaos.viewers import HEAD_S, RESTORE_S, Client

HISTORY = "history.jsonl"


async def run(profile: Profile, seed: int, out: Path) -> list[str]:
    """Run `profile`; write its artefacts into `out`. Return what broke in the harness itself."""
    recorder = Recorder(out / HISTORY)
    fleet = Fleet(profile.fleet, out, recorder)
    try:
        began = time.monotonic()
        await fleet.open()
        say(f"fleet up after {time.monotonic() - began:.1f} s, balancer on port {fleet.port}")
        baseline = await take_baseline(fleet)
        head_s = max(HEAD_S, profile.fleet.lease_ms / 1000 + RESTORE_S)
        client = Client(fleet.balancer, recorder, random.Random(f"clients-{seed}"), head_s=head_s)
        load = Load(client, recorder, profile.load, seed)
        load.open()
        await asyncio.sleep(profile.warm_s)
        nemesis = Nemesis(fleet, recorder, seed, fault_s=profile.fault_s)
        for number in profile.windows:
            fault = await nemesis.run(number)
            say(f"window {number:2}: {fault.target} ({fault.healed - fault.began:.1f} s)")
            await asyncio.sleep(profile.heal_s)
        late = await load.finish(profile.quiesce_s)
        await settle(fleet, profile.quiesce_s)
        await dump(fleet, out, baseline)
        broken = [f"a client broke: {error!r}" for error in load.broken]
        return broken + ([f"{late} sessions did not end"] if late else [])
    finally:
        for member in fleet.members.values():
            if member.life is not None and member.life.how == "running":
                await fleet.sample()
        await fleet.close()
        recorder.close()


def say(text: str) -> None:
    """Tell whoever watches."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()
