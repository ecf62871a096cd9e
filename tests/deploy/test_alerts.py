"""The rules for Prometheus: whole, one for each sign of the runbook, and none that a first increase passes by."""

from __future__ import annotations

import re
from typing import Any

import yaml

from gateway.routes import health
from tests.docs.readme import ROOT
from worker.metrics import Metrics

DEPLOY = ROOT / "deploy"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
SERIES = re.compile(r"\btailrace_[a-z0-9_]+(?:\{[^}]*\})?")


def test_a_rule_says_what_is_wrong_and_how_urgent_it_is() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule
        assert rule["annotations"]["summary"].endswith("."), rule


def test_every_sign_of_the_runbook_has_a_rule() -> None:
    """With the same label, where the sign has one."""
    table = (DEPLOY / "README.md").read_text().split("## What to watch")[1].split("## ")[0]
    signs = [sign for row in table.splitlines() if "metrics" in row for sign in SERIES.findall(row.split("|")[1])]
    watched = {series for rule in RULES for series in SERIES.findall(rule["expr"])}
    assert signs
    assert [sign for sign in signs if sign not in watched] == []


def test_probes_are_no_requests_that_a_rule_counts() -> None:
    """Each gateway that is rolled answers 503 to /readyz while it drains; and on a quiet night there is little else."""
    counted = [series for rule in RULES for series in SERIES.findall(rule["expr"]) if "_requests_total" in series]
    assert counted
    for series in counted:
        left_out = re.search(r'operation!~"([^"]*)"', series)
        assert left_out, series
        for operation in health.OPERATIONS:
            assert re.fullmatch(left_out[1], operation.name), (series, operation.name)


def test_what_a_rule_counts_by_label_is_there_before_it_happens() -> None:
    """A series that appears with the value 1 has not increased, says Prometheus: the first time would be missed."""
    exposition = Metrics().text().decode()
    counted = [series for rule in RULES for series in re.findall(r"increase\((\w+(?:\{.*?\})?)\[", rule["expr"])]
    worker = [series for series in counted if not series.startswith("tailrace_gateway_")]
    assert any("{" in series for series in worker)
    for series in worker:
        name, _, label = series.rstrip("}").partition("{")
        at_zero = rf"^{name}(\{{.*{re.escape(label)}.*\}})? 0\.0$"
        assert re.search(at_zero, exposition, re.MULTILINE), series
