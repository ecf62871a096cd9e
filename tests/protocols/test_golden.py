"""Equal entries give equal bytes: today's as kept in `golden/`, at every cut, and from a process that starts cold.

`TAILRACE_UPDATE_GOLDEN=1` writes the golden files anew; look at the difference before keeping it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import pytest

from gateway.protocols import WIRES
from tests.protocols.rendering import FOLDER, LOGS, read_log, render, transcript

CASES = [(wire, name) for wire in WIRES for name in LOGS]
UPDATE = os.environ.get("TAILRACE_UPDATE_GOLDEN") == "1"
ROOT = Path(__file__).resolve().parents[2]


def golden(wire: str, name: str) -> Path:
    return FOLDER / "golden" / wire / f"{name}.txt"


@pytest.mark.parametrize(("wire", "name"), CASES)
def test_a_log_is_rendered_as_it_always_was(wire: str, name: str) -> None:
    made = transcript(render(WIRES[wire], read_log(name)))
    path = golden(wire, name)
    if UPDATE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made)
    assert path.read_bytes() == made


@pytest.mark.parametrize(("wire", "name"), CASES)
def test_cut_anywhere_the_rest_is_the_same(wire: str, name: str) -> None:
    """An entry's events depend on the entries before it alone, so that an ordinal means the same on every replica."""
    entries = read_log(name)
    whole = render(WIRES[wire], entries)
    for cut in range(len(entries) + 1):
        head = render(WIRES[wire], entries[:cut])
        if WIRES[wire].stateless:
            assert head + render(WIRES[wire], entries[cut:]) == whole
        else:
            assert head == whole[: len(head)]
            assert head + render(WIRES[wire], entries)[len(head) :] == whole


@cache
def rendered_cold() -> dict[str, str]:
    """Render everything in another process, whose hashes are seeded otherwise."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.protocols.rendering"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        check=True,
        timeout=50,
    )
    found: dict[str, str] = msgspec.json.decode(done.stdout)
    return found


@pytest.mark.parametrize("wire", WIRES)
def test_a_renderer_that_starts_cold_elsewhere_makes_the_same(wire: str) -> None:
    for name in LOGS:
        assert rendered_cold()[f"{wire}/{name}"] == transcript(render(WIRES[wire], read_log(name))).decode()
