"""Runs one profile and checks it: `python -m tests.chaos [--profile short] [--seed 7] [--out DIR] [--check-only]`."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
from pathlib import Path

import uvloop

from tests.chaos.check.report import report
from tests.chaos.profiles import PROFILES
from tests.chaos.run import run, say
from tests.chaos.scenarios import SCENARIOS
from tests.support.processes import ROOT

KNOWN = {**PROFILES, **SCENARIOS}


def main() -> int:
    """Return 0 for a run that passed, 1 for a violation, 3 for a run that proves nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--profile", choices=KNOWN, default=os.environ.get("CHAOS_PROFILE", "full"))
    parser.add_argument(
        "--seed", type=int, default=int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**6)
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check-only", action="store_true", help="check the artefacts in --out again")
    arguments = parser.parse_args()
    profile = KNOWN[arguments.profile]
    seed = arguments.seed or random.randrange(1, 10**6)
    out = arguments.out or ROOT / ".chaos" / f"{profile.name.replace(' ', '-')}-{seed}"
    broken: list[str] = []
    if not arguments.check_only:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        say(f"profile {profile.name}, seed {seed}, artefacts in {out}")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            broken = runner.run(run(profile, seed, out))
    code, text = report(profile, out, broken)
    (out / "report.txt").write_text(f"profile {profile.name}, seed {seed}\n{text}\n", encoding="utf-8")
    say(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
