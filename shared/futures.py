"""Owns what is done with a future whose result nobody waits for."""

from __future__ import annotations

import asyncio
from typing import Any


def ignore_failure(future: asyncio.Future[Any]) -> None:
    """Retrieve the exception, so that asyncio does not report it."""
    if not future.cancelled():
        future.exception()
