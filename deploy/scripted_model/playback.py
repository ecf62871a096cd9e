"""The one loop that paces an answer: pieces become frames when they are due, until the end, a fault or a farewell."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from deploy.scripted_model.faults import Fault
from deploy.scripted_model.journal import Entry
from deploy.scripted_model.script import Delivery, Piece

_MAX_BURST = 64  # frames written at once by a stream that is late or unpaced


@dataclass(frozen=True, slots=True)
class Tempo:
    """When tokens are due, counted from the start of the playback."""

    rate: float  # tokens per second, 0 = at once
    first_token_s: float = 0.0


class Stage(Protocol):
    """Where frames go, and where waiting happens."""

    async def write(self, frames: bytes) -> None:
        """Take `frames`."""

    async def pause_until(self, due: float) -> bool:
        """Wait until the loop's clock shows `due`; return False as soon as nobody waits for the answer any more."""


class Encoder(Protocol):
    """Turns the course of an answer into frames; an encoder of whole responses returns b'' and keeps the pieces."""

    def opening(self) -> bytes:
        """Return what goes before the first piece."""

    def piece(self, piece: Piece) -> bytes:
        """Return the frames of one piece."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a playback ended: `fault` if one struck, `left` if nobody waits any more, neither if all was said."""

    fault: Fault | None = None
    left: bool = False


DONE = Ending()
LEFT = Ending(left=True)


async def play(
    delivery: Delivery, tempo: Tempo, encoder: Encoder, stage: Stage, entry: Entry, cut: Fault | None
) -> Ending:
    """Write the answer to `stage` at its tempo; the end of the stream itself is left to the caller.

    A cut strikes after as many tokens as it says, and before the opening if it says 0. `entry` counts the tokens.
    """
    loop = asyncio.get_running_loop()
    if cut is not None and cut.at == 0:
        return Ending(fault=cut)
    await stage.write(encoder.opening())
    due = loop.time() + tempo.first_token_s
    pending: list[bytes] = []
    for piece in delivery:
        # Due times are absolute, so a stream that was held up catches up instead of drifting.
        if due > loop.time() or len(pending) >= _MAX_BURST or not entry.tokens_sent:
            await stage.write(b"".join(pending))
            pending.clear()
            if not await stage.pause_until(due):
                return LEFT
        pending.append(encoder.piece(piece))
        entry.tokens_sent += piece.tokens
        due += piece.tokens / tempo.rate if tempo.rate else 0.0
        if cut is not None and entry.tokens_sent >= cut.at:
            break
    await stage.write(b"".join(pending))
    return Ending(fault=cut) if cut is not None and entry.tokens_sent >= cut.at else DONE
