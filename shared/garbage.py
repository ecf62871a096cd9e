"""Owns how often a service looks for reference cycles.

A gateway holds hundreds of thousands of objects for long, and what it makes for an event it drops at once, by
reference count. Python's defaults walk over all of that every few thousand events: measured, a quarter of a busy
gateway's time, in stops of a tenth of a second. So what the imports have made is left out for good, and the rest is
looked at more rarely.
"""

from __future__ import annotations

import gc

YOUNG = 50_000
"""Objects made and not dropped after which the youngest generation is collected."""
OLDER = 20
"""Collections of a generation after which the next older one is collected."""


def tune_collector() -> None:
    """Freeze what the imports have made and collect garbage rarely from here on. Call once, whether it is on or off."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, OLDER, OLDER)
    gc.enable()
