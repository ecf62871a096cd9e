"""Naming an agent by its dotted path: what is accepted, and what is said of the rest before anything runs."""

from __future__ import annotations

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
