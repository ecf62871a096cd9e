"""Owns what must hold of the processes' own logs: I13, a fault around the product is no error of the product.

Whatever happens to Redis, to the upstream or to a process is expected, and said at most as a warning. A line of level
`error` or `critical`, or a traceback outside the log's form, is a violation unless it is allowed here with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.check.world import Violation

_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Allowed:
    """An error that a fault of ours may cause."""

    logger: str
    event: str
    reason: str


ALLOWED: tuple[Allowed, ...] = ()
"""Empty: none of the faults that the nemesis knows makes the product say `error`."""


def check_said(out: Path) -> Iterator[Violation]:
    """Yield what gateways and workers said that they should not have had to say."""
    for path in sorted((out / "logs").glob("*.log")):
        if path.stem.startswith(("gateway", "worker")):
            yield from _file(path)


def _file(path: Path) -> Iterator[Violation]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            said = _read(line)
            if said is None:
                if line.startswith(("Traceback ", "Fatal Python error")):
                    yield Violation("I13", path.stem, f"wrote outside its log: {line.strip()}")
            elif said.get("level") in ("error", "critical") and not _allowed(said):
                yield Violation("I13", path.stem, f"said: {line.strip()[:_SHOWN]}")


def _read(line: str) -> dict[str, Any] | None:
    """Return a line of the log; None if it is none, as what an interpreter writes when it fails, or one cut short."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _allowed(said: dict[str, Any]) -> bool:
    return any(said.get("logger") == one.logger and said.get("event") == one.event for one in ALLOWED)
