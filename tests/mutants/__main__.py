"""Runs every mutant, or those whose name contains the first argument: `python -m tests.mutants [fragment]`.

A mutant is applied to a copy of the sources, its tests run there, and they must fail. The same tests must pass on
the unchanged copy, or a failure would mean nothing. Prints a table; exits with 1 if a mutant survives.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import ROOT, Mutant
from tests.support.redis import main_redis

COPIED = ("shared", "gateway", "worker", "deploy", "tests", "pyproject.toml")
PASSED, FAILED = 0, 1  # pytest's exit codes; any other means that the tests did not run
DOES_NOT_APPLY, TOOK_TOO_LONG = -1000, -1001
KILLED, SURVIVED = "killed", "SURVIVED"
RUN_WITHIN_S = 300
LANES = 4


class Lane:
    """A copy of the sources with a Redis of its own; one run at a time."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
            else:
                shutil.copy(source, folder / name)
        # By hash: a mutant may be as long as what it replaces, and made within the same second.
        compileall.compile_dir(folder, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
        self._env = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",  # a mutant's bytecode must not outlive it
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TEST_REDIS_URL": redis_url,
            "TEST_REDIS": "binary",
            "TAILRACE_CI_STRICT": "1",
        }

    def run(self, tests: Sequence[str]) -> tuple[int, str]:
        """Run `tests` here; return pytest's exit code and output."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
        command += ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", *tests]
        how: dict[str, Any] = {"cwd": self.folder, "env": self._env, "capture_output": True, "text": True}
        try:
            done = subprocess.run(command, timeout=RUN_WITHIN_S, check=False, **how)
        except subprocess.TimeoutExpired:
            return TOOK_TOO_LONG, f"no result within {RUN_WITHIN_S} s"
        return done.returncode, done.stdout + done.stderr

    def try_mutant(self, mutant: Mutant) -> tuple[int, str]:
        """Run the mutant's tests with the mutant in place."""
        path = self.folder / mutant.file
        original = mutant.source(self.folder)
        try:
            mutated = mutant.mutated(self.folder)
        except ValueError as error:
            return DOES_NOT_APPLY, str(error)
        path.write_text(mutated, encoding="utf-8")
        try:
            return self.run(mutant.tests)
        finally:
            path.write_text(original, encoding="utf-8")


def main(fragment: str = "") -> int:
    """Run the mutants whose name contains `fragment`; return the exit code."""
    mutants = [mutant for mutant in MUTANTS if fragment in mutant.name]
    if not mutants:
        say(f"no mutant's name contains {fragment!r}")
        return 1
    # A server each: tests kill connections and set maxmemory, which no database of a shared one would contain.
    count = 1 if os.environ.get("TEST_REDIS_URL") else min(LANES, len(mutants))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tailrace-mutants-")))
        lanes = []
        for number in range(count):
            server = main_redis()
            stack.callback(server.close)
            lanes.append(Lane(folder / str(number), server.url))
        return judge(mutants, lanes)


def judge(mutants: Sequence[Mutant], lanes: Sequence[Lane]) -> int:
    """Check that the tests pass on the unchanged sources, then that each mutant fails them."""
    began = time.monotonic()
    idle: Queue[Lane] = Queue()
    for lane in lanes:
        idle.put(lane)

    def with_lane(work: Callable[[Lane], tuple[int, str]]) -> tuple[int, str]:
        lane = idle.get()
        try:
            return work(lane)
        finally:
            idle.put(lane)

    survivors = 0
    with ThreadPoolExecutor(len(lanes)) as pool:
        for code, output in pool.map(with_lane, [partial(Lane.run, tests=part) for part in parts(mutants, len(lanes))]):
            if code != PASSED:
                say(f"the tests do not pass on the unchanged sources (exit code {code}):\n{output}")
                return 1
        results = pool.map(with_lane, [partial(Lane.try_mutant, mutant=mutant) for mutant in mutants])
        for mutant, (code, output) in zip(mutants, results, strict=True):
            verdict = verdict_on(code, output)
            survivors += verdict != KILLED
            say(f"{verdict:10}  {mutant.name}  ({mutant.file})")
            if verdict not in (KILLED, SURVIVED):
                say(output)
    say(f"{len(mutants) - survivors} of {len(mutants)} mutants killed in {time.monotonic() - began:.0f} s")
    return 1 if survivors else 0


def parts(mutants: Sequence[Mutant], most: int) -> list[list[str]]:
    """Return the mutants' tests, each once, as up to `most` lists; the tests of a file stay together."""
    files: dict[str, list[str]] = {}
    for test in sorted({test for mutant in mutants for test in mutant.tests}):
        files.setdefault(test.partition("::")[0], []).append(test)
    dealt = [[test for tests in list(files.values())[lane::most] for test in tests] for lane in range(most)]
    return [part for part in dealt if part]


def verdict_on(code: int, output: str) -> str:
    """Return what a run shows. A mutant that does not even compile is no mutant."""
    if code == PASSED:
        return SURVIVED
    if code != FAILED:
        return "DOES NOT APPLY" if code == DOES_NOT_APPLY else f"NOT TESTED (exit code {code})"
    return "BROKEN" if "Error compiling script" in output or "SyntaxError" in output else KILLED


def say(line: str) -> None:
    """Write a line of the table at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
