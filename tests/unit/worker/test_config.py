"""Upstreams from the models file: a key that is missing is said, and nothing else stops for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from shared.models import Models, ModelSpec, load_models
from worker.settings import WorkerSettings
from worker.upstreams.config import Upstreams

NAMED = ModelSpec(name="named", base_url="http://model/v1", api_key_env="A_KEY")
USUAL = ModelSpec(name="usual", kind="responses")
KEYLESS = ModelSpec(name="keyless", base_url="http://model/v1")
AGENT = ModelSpec(name="agent", kind="agent", agent="tests.integration.worker_agents:weather")


async def warned(models: Models, environment: Mapping[str, str], caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the model and the variable of every warning at the start."""
    upstreams = Upstreams(models, WorkerSettings(), environment)
    await upstreams.close()
    lines = [vars(record) for record in caplog.records if record.levelno == logging.WARNING]
    assert {line["msg"] for line in lines} <= {"model without its key: the variable is unset or empty"}
    return [f"{line['model']} {line['variable']}" for line in lines]


@pytest.mark.parametrize("missing", [{}, {"A_KEY": "", "OPENAI_API_KEY": ""}])
async def test_a_missing_key_is_named_with_its_model(missing: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    models = Models([KEYLESS, NAMED, USUAL, AGENT])
    assert await warned(models, missing, caplog) == ["named A_KEY", "usual OPENAI_API_KEY"]


async def test_keys_that_are_there_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    models = Models([KEYLESS, NAMED, USUAL, AGENT])
    assert await warned(models, {"A_KEY": "sk-1", "OPENAI_API_KEY": "sk-2"}, caplog) == []


async def test_a_server_of_ones_own_is_asked_for_no_key_unless_there_is_one(caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = {"OPENAI_BASE_URL": "http://model/v1"}
    assert await warned(load_models("", elsewhere), elsewhere, caplog) == []
    assert await warned(load_models("", {}), {}, caplog) == ["gpt-4o-mini OPENAI_API_KEY"]
