"""The runbook's metrics: every one that it, or a rule beside it, names is exported by a gateway or a worker."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.readme import ROOT
from tests.support.gateway import live_gateway, settings_for
from worker.metrics import Metrics

NAMED = re.compile(r"\btailrace_[a-z0-9_]+")
TEXTS = [path for kind in ("*.md", "*.yml", "*.yaml") for path in sorted((ROOT / "deploy").rglob(kind))]


def exported(exposition: str) -> set[str]:
    """Return the names of an exposition's series, those included that have no value yet."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE):
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


async def test_every_metric_that_is_named_is_exported(redis_url: str, tmp_path: Path) -> None:
    async with live_gateway(settings_for(redis_url, tmp_path)) as gateway:
        names = exported(gateway.services.metrics.render().decode()) | exported(Metrics().text().decode())
    assert {"tailrace_queue_depth", "tailrace_gateway_slow_viewers_total"} <= names
    assert ROOT / "deploy" / "README.md" in TEXTS
    named = {str(path.relative_to(ROOT)): set(NAMED.findall(path.read_text())) for path in TEXTS}
    assert named["deploy/README.md"]
    assert {name: those - names for name, those in named.items() if those - names} == {}


def test_the_signs_to_watch_are_named_as_metrics() -> None:
    runbook = (ROOT / "deploy" / "README.md").read_text()
    table = runbook.split("## What to watch")[1].split("## ")[0]
    signs = [row.split("|")[1] for row in table.splitlines() if "metrics" in row]
    assert signs
    assert [sign for sign in signs if not NAMED.search(sign)] == []
