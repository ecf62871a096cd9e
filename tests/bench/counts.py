"""Owns counting what a Redis did meanwhile: commands, and bytes in and out."""

from __future__ import annotations

from typing import Any

import redis


class RedisCounts:
    """What a Redis did since the object was made."""

    def __init__(self, port: int) -> None:
        self._client = redis.Redis(port=port)
        self._client.config_resetstat()

    def per(self, events: int, scene: str) -> dict[str, float]:
        """Return the counts, per event."""
        stats: Any = self._client.info("stats")
        commands: Any = self._client.info("commandstats")
        outer = ("cmdstat_config|resetstat", "cmdstat_info")
        calls = sum(row["calls"] for name, row in commands.items() if name not in outer)
        self._client.close()
        return {
            f"{scene}.redis_commands": calls / events,
            f"{scene}.redis_bytes_in": stats["total_net_input_bytes"] / events,
            f"{scene}.redis_bytes_out": stats["total_net_output_bytes"] / events,
        }
