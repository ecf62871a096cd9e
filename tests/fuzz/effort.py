"""Owns how long is fuzzed: the same few examples in every run, or new ones for about `TAILRACE_FUZZ_SECONDS`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

SECONDS = float(os.environ.get("TAILRACE_FUZZ_SECONDS", "0"))
ORDINARY_S = 30.0
"""What all of it takes with the examples of an ordinary run."""
SLACK_S = 120.0


def examples(count: int) -> Callable[[Any], Any]:
    """Return Hypothesis' settings for a test that takes `count` examples in an ordinary run."""
    return settings(
        max_examples=max(count, round(count * SECONDS / ORDINARY_S)),
        derandomize=not SECONDS,
        print_blob=bool(SECONDS),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
