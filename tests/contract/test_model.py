"""The model check of the log's scripts on every Redis version.

TAILRACE_MODEL_EXAMPLES=10000 looks for longer; TAILRACE_MODEL_SHRINK=1 spends minutes on the shortest failing run.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.model.machine import LogMachine
from tests.support.redis import RedisServer

REPLIES = [
    *(f"create {reply}" for reply in ("created", "exists", "conflict", "busy", "full")),
    *(
        f"claim {reply}"
        for reply in ("ok", "busy", "moved", "stopped", "exhausted", "decided", "lost", "final", "gone")
    ),
    *(f"append {reply}" for reply in ("ok", "gap", "fenced", "final", "lost", "gone")),
    *(f"extend {reply}" for reply in ("ok", "unsure")),
    *(f"checkpoint {reply}" for reply in ("ok", "gap", "fenced", "final", "lost", "gone")),
    *(f"finish {reply}" for reply in ("ok", "gap", "fenced", "lost", "gone")),
    *(f"decide {reply}" for reply in ("ok", "fenced", "final", "gone")),
    *(f"force {reply}" for reply in ("ok", "moved", "final", "gone")),
    *(f"release {reply}" for reply in ("ok", "fenced", "gone")),
    *(f"restore {reply}" for reply in ("ok", "busy", "fenced", "final")),
    *(f"stop {reply}" for reply in ("stopping", "ownerless", "final", "gone")),
    *(f"reader {deed}" for deed in ("believes", "does not believe")),
    *(f"viewer {deed}" for deed in ("hears", "takes", "resets")),
]
EXAMPLES = int(os.environ.get("TAILRACE_MODEL_EXAMPLES", "60"))
STEPS = 50
PHASES = [Phase.generate, *([Phase.shrink] if os.environ.get("TAILRACE_MODEL_SHRINK") else [])]
ENOUGH = 5000
"""Operations after which every reply must have been seen at least once, over all versions."""
reached: Counter[str] = Counter()


@pytest.mark.slow
@pytest.mark.timeout(60 + EXAMPLES)
def test_the_scripts_do_what_the_reference_says(redis_url: str, redis_server: RedisServer) -> None:
    machine = type("Machine", (LogMachine,), {"url": redis_url, "replies": reached})
    how = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, phases=PHASES)
    run_state_machine_as_test(seed(redis_server.version[0])(machine), settings=how)  # each version searches elsewhere
    missing = [reply for reply in REPLIES if not reached[reply]]
    if sum(reached.values()) > ENOUGH:
        assert not missing, f"the search never got these, so it shows nothing about them: {missing} {reached}"
