"""The chaos harness as tests: directed scenarios of one kind of fault each, and short rolling restarts.

Each runs in a process of its own (it wants an event loop and two cores to itself) and must end with exit code 0: no
invariant broken, and enough of its fault seen to count. The artefacts of a failure stay in `.chaos/`.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from tests.chaos.check.report import VOID
from tests.chaos.upgrade import SERVICES
from tests.support.processes import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server with --sentinel is not on PATH"),
]


async def _run(*arguments: str) -> None:
    code, said = await _outcome(*arguments)
    assert code == 0, said[-6000:]


async def _outcome(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 380)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said.decode()


@pytest.mark.parametrize("scenario", ["three kills", "redis down", "redis lost", "sentinel", "calm", "plain"])
async def test_what_the_guarantee_table_says_is_what_the_checker_sees(scenario: str) -> None:
    await _run("tests.chaos", "--profile", scenario, "--seed", "5")


@pytest.mark.parametrize("wrong", ["no-delay", "short-grace"])
async def test_a_rolling_restart_that_is_configured_wrong_costs_what_its_mistake_costs(wrong: str) -> None:
    await _run(
        "tests.chaos.rolling", "--streams", "40", "--rounds", "1", "--pods", "2", "--seed", "5", "--wrong", wrong
    )


async def test_a_fleet_that_is_rolled_to_another_release_and_back_is_ordinary_churn(tmp_path: Path) -> None:
    for service in SERVICES:  # the same code, at another place: another release's is for `make upgrade`
        shutil.copytree(ROOT / service, tmp_path / service, ignore=shutil.ignore_patterns("__pycache__"))
    await _run("tests.chaos.upgrade", str(tmp_path), "--streams", "40", "--pods", "2", "--seed", "5")


@pytest.mark.timeout(700)
async def test_every_kind_of_fault_once() -> None:
    code: int | None = VOID
    said = ""
    for seed in ("5", "6", "7"):  # a void run shows nothing, neither way
        code, said = await _outcome("tests.chaos", "--profile", "short", "--seed", seed)
        if code != VOID:
            break
    assert code == 0, said[-6000:]
