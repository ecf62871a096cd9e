"""Naming an agent by its dotted path: what is accepted, and what is said of the rest before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.upstreams.agent import Agent, load_agent


class Callable:
    """An object may be an agent too."""

    async def __call__(self, request: object, context: object):  # type: ignore[no-untyped-def]
        yield request


async def generator(request: object, context: object):  # type: ignore[no-untyped-def]
    yield request


async def coroutine(request: object, context: object) -> None:
    """Not a generator."""


instance = Callable()
HERE = "tests.unit.worker.test_agent"


@pytest.mark.parametrize("name", ["generator", "instance"])
def test_async_generator_functions_and_objects_are_agents(name: str) -> None:
    assert load_agent(f"{HERE}:{name}") == Agent(globals()[name])


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("import os\nKEY = os.environ['NO_SUCH_KEY']", "KeyError: 'NO_SUCH_KEY'"),
        ("def agent(:", "SyntaxError: "),
        ("open('no such file')", "FileNotFoundError: "),
        ("import sys\nsys.exit('no settings')", "SystemExit: no settings"),
        ("int('x')", "ValueError: "),
        ("import re\nre.nothing", "AttributeError: "),
        ("import no_such_package", "No module named 'no_such_package'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, wrong: str
) -> None:
    (tmp_path / "broken_agent.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=f"^agent broken_agent:agent: {wrong}"):
        load_agent("broken_agent:agent")


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (f"{HERE}:coroutine", "async generator"),
        (f"{HERE}:nothing", "has no 'nothing'"),
        ("no.such.module:x", "No module"),
        (f"{HERE}:HERE", "async generator"),
    ],
)
def test_anything_else_is_refused_with_the_reason(path: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        load_agent(path)
