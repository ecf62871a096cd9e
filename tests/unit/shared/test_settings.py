"""Settings: read from the environment, refused when they do not fit, never changed."""

from __future__ import annotations

import logging

import pytest
from pydantic import ValidationError

from shared.log.types import Retention
from shared.settings import REAPED_WITHIN_S, SharedSettings, faults
from worker.reaper import LONGEST_PAUSE_MS


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SharedSettings.model_fields:
        monkeypatch.delenv(f"TAILRACE_{name.upper()}", raising=False)


def test_the_defaults_fit_together() -> None:
    settings = SharedSettings()
    assert settings.heartbeat_ms * 3 < settings.lease_ms
    assert settings.queue_url == settings.redis_url
    keep = settings.retention
    assert keep == Retention()
    assert keep.replay_ms <= keep.retain_ms <= keep.tombstone_ms


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_LEASE_MS", "2000")
    monkeypatch.setenv("TAILRACE_QUEUE_REDIS_URL", "redis://queue/1")
    monkeypatch.setenv("TAILRACE_REPLAY_S", "5")
    settings = SharedSettings()
    assert (settings.lease_ms, settings.queue_url, settings.retention.replay_ms) == (2000, "redis://queue/1", 5000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_MS", "1999"), ("LEASE_MS", "soon"), ("WAIT_REPLICAS", "-1"), ("MAX_ATTEMPTS", "0"),
        ("REPLAY_S", "0"), ("LIVE_TTL_S", "59"), ("REDIS_DEADLINE_S", "0"), ("REPLAY_S", "86401"),
        ("LOG_LEVEL", "chatty"), ("LOG_LEVEL", ""), ("REDIS_URL", ""), ("REDIS_URL", "http://h"),
        ("REDIS_URL", "redis://h:port"), ("QUEUE_REDIS_URL", "localhost:6379"), ("QUEUE_REDIS_URL", "cluster://h/7"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TAILRACE_{name}", value)
    with pytest.raises(ValidationError) as raised:
        SharedSettings()
    assert name in str(raised.value).upper()


@pytest.mark.parametrize(
    ("name", "value"),
    [("log_level", "chatty"), ("redis_url", "redis://:s3cret@h:port"), ("queue_redis_url", "redis://:s3cret@[h/0")],
)
def test_one_that_is_wrong_by_itself_is_named_as_a_field_without_what_it_holds(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """So the services can print it as the variable's name and a sentence."""
    monkeypatch.setenv(f"TAILRACE_{name.upper()}", value)
    with pytest.raises(ValidationError) as raised:
        SharedSettings()
    assert [fault["loc"] for fault in raised.value.errors()] == [(name,)]
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("level", ["debug", "Info", "WARN", "warning", "error", "critical", "fatal"])
def test_a_log_level_is_what_logging_knows_in_any_case(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setenv("TAILRACE_LOG_LEVEL", level)
    assert logging.getLevelNamesMapping()[SharedSettings().log_level]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ({"RETAIN_S": 9}, {"REPLAY_S": 10}),
        ({"TOMBSTONE_S": 99}, {"REPLAY_S": 10, "RETAIN_S": 100}),
        ({"LIVE_TTL_S": 359}, {"QUEUE_TIMEOUT_S": 300}),
    ],
)
def test_settings_that_break_a_promise_together_are_named_together(
    monkeypatch: pytest.MonkeyPatch, low: dict[str, int], high: dict[str, int]
) -> None:
    for name, value in (low | high).items():
        monkeypatch.setenv(f"TAILRACE_{name}", str(value))
    with pytest.raises(ValidationError) as raised:
        SharedSettings()
    for name, value in ([*low.items()][-1], [*high.items()][-1]):
        assert f"TAILRACE_{name}={value}" in str(raised.value)
    for name, value in low.items():
        monkeypatch.setenv(f"TAILRACE_{name}", str(value + 1))
    SharedSettings()


def test_a_reaper_is_never_later_than_the_time_kept_for_it() -> None:
    assert LONGEST_PAUSE_MS <= REAPED_WITHIN_S * 1000


@pytest.mark.parametrize("url", ["cluster://a,b", "clusters://a"])
def test_a_cluster_needs_another_redis_for_the_queue(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TAILRACE_REDIS_URL", url)
    with pytest.raises(ValidationError, match="set TAILRACE_QUEUE_REDIS_URL to a Redis with one primary"):
        SharedSettings()
    monkeypatch.setenv("TAILRACE_QUEUE_REDIS_URL", "redis://queue")
    assert SharedSettings().queue_url == "redis://queue"
    monkeypatch.setenv("TAILRACE_QUEUE_REDIS_URL", "cluster://queue")
    with pytest.raises(ValidationError, match="TAILRACE_QUEUE_REDIS_URL must not be a Redis Cluster"):
        SharedSettings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        SharedSettings().lease_ms = 1  # type: ignore[misc]  # that is the point


def test_every_setting_is_described() -> None:
    assert all(field.description for field in SharedSettings.model_fields.values())


def test_a_fault_is_a_sentence_that_names_the_variable_without_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_LEASE_MS", "canary")
    monkeypatch.setenv("TAILRACE_MAX_ATTEMPTS", "0")
    with pytest.raises(ValidationError) as raised:
        SharedSettings()
    assert faults(raised.value) == [
        "TAILRACE_LEASE_MS: Input should be a valid integer, unable to parse string as an integer",
        "TAILRACE_MAX_ATTEMPTS: Input should be greater than or equal to 1",
    ]


def test_a_fault_of_several_settings_together_names_them_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_QUEUE_REDIS_URL", "cluster://queue")
    with pytest.raises(ValidationError) as raised:
        SharedSettings()
    assert faults(raised.value) == ["TAILRACE_QUEUE_REDIS_URL must not be a Redis Cluster: the queue needs one primary"]
