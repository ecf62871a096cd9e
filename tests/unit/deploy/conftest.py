"""One scripted model for all tests of this folder, and a client of it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.scripted_model.child import ModelProcess, child_model
from tests.unit.deploy.scripted_client import ScriptedClient, connect


@pytest.fixture(scope="session")
def model() -> Iterator[ModelProcess]:
    with child_model() as process:
        yield process


@pytest.fixture
async def client(model: ModelProcess) -> AsyncIterator[ScriptedClient]:
    async with connect(model.root) as scripted:
        yield scripted
