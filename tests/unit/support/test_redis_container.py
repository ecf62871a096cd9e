"""When a container's server may listen on our own loopback: only where the engine's network surely is ours."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.support.redis_container import shares_our_network

HERE = {"KernelVersion": os.uname().release, "Name": os.uname().nodename, "OperatingSystem": "Debian"}


@pytest.mark.parametrize(
    ("more", "shared"),
    [
        ({}, True),
        ({"SecurityOptions": ["name=seccomp,profile=builtin"]}, True),
        ({"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}, False),
        ({"SecurityOptions": ["name=userns"]}, False),
        ({"OperatingSystem": "Docker Desktop"}, False),
        ({"KernelVersion": "6.10.0-linuxkit"}, False),
        ({"Name": "another-machine"}, False),
    ],
)
def test_an_engines_network_is_ours_only_if_all_says_so(more: dict[str, Any], shared: bool) -> None:
    assert shares_our_network({**HERE, **more}) is shared
    assert not shares_our_network({})
