"""One rig for all fuzz tests of a process, and its state of rest looked at after each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.effort import SECONDS, SLACK_S
from tests.fuzz.rig import Rig, open_rig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder the time that they were asked to take."""
    for item in items:
        if "tests/fuzz/" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(SLACK_S + SECONDS))


@pytest.fixture(scope="session")
def whole_rig() -> Iterator[Rig]:
    """The processes."""
    with open_rig() as opened:
        yield opened


@pytest.fixture
def rig(whole_rig: Rig) -> Iterator[Rig]:
    """The rig; after the test its gateway must be as well as before."""
    yield whole_rig
    whole_rig.check_rest()
