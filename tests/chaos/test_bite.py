"""The planted faults still fit: a change of the sources must not silently void one, which would then prove nothing.

And the quickest of them is tried in earnest, with the chaos tests: the checker must find it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from tests.chaos.bite import PLANTED, Planted, attempt, plant
from tests.chaos.scenarios import SCENARIOS
from tests.support.processes import ROOT

QUICKEST = "stop not heard by the worker"


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: re.sub(r"\W+", "-", planted.name))
def test_a_planted_fault_fits_the_sources(planted: Planted, tmp_path: Path) -> None:
    for file, _, _ in planted.edits:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    assert plant(planted, tmp_path) == []
    assert planted.scenario in SCENARIOS
    for file in {file for file, _, _ in planted.edits if file.endswith(".py")}:
        compile((tmp_path / file).read_text(encoding="utf-8"), file, "exec")


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server with --sentinel is not on PATH")
async def test_the_checker_finds_a_planted_fault() -> None:
    planted = next(planted for planted in PLANTED if planted.name == QUICKEST)
    assert await asyncio.to_thread(attempt, planted)
