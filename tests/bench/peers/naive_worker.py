"""A peer: the worker that most would write first. The SDK's stream of chunk objects, one awaited XADD a token.

python tests/bench/peers/naive_worker.py GENERATIONS BASE_URL REDIS_PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop
from openai import AsyncOpenAI
from redis.asyncio import Redis


async def generate(client: AsyncOpenAI, redis: Any, number: int) -> None:
    """Write one answer to its stream."""
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "go"}], stream=True, timeout=120
    )
    async for chunk in stream:
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            await redis.xadd(f"s:{number}", {"d": text})


async def main(generations: int, base_url: str, redis_port: int) -> None:
    """Run all of them at the same time."""
    client = AsyncOpenAI(api_key="none", base_url=base_url)
    redis: Any = Redis(port=redis_port, max_connections=10_000)
    await asyncio.gather(*(generate(client, redis, number) for number in range(generations)))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
