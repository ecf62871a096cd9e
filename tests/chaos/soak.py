"""Runs the full profile again and again, each time with another seed: `python -m tests.chaos.soak --hours 8`.

Artefacts of a run that passed are removed, but for its report; the first that fails keeps everything and ends the soak.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import time

from tests.support.processes import ROOT


def main() -> int:
    """Return the exit code of the last run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak")
    parser.add_argument("--hours", type=float, default=8.0)
    end = time.monotonic() + parser.parse_args().hours * 3600
    runs = 0
    while time.monotonic() < end:
        seed = random.randrange(1, 10**6)
        out = ROOT / ".chaos" / f"soak-{seed}"
        command = [sys.executable, "-m", "tests.chaos", "--profile", "full", "--seed", str(seed), "--out", str(out)]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        runs += 1
        sys.stdout.write(f"soak: run {runs}, seed {seed}, exit code {code}\n")
        if code:
            return code
        report = (out / "report.txt").read_text(encoding="utf-8")
        shutil.rmtree(out)
        out.with_suffix(".txt").write_text(report, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
