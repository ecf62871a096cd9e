"""Owns what a tail and its channels ask of who follows them: of a viewer, as far as they are concerned."""

from __future__ import annotations

from typing import Literal, Protocol

from gateway.live.batch import Batch
from gateway.live.transport import Transport
from gateway.protocols.base import Encoder, Over, Wire
from shared.cursor import Cursor

Outcome = Literal["ended", "broken", "left"]
"""How it is over: with the stream's clean end, with a broken connection, or because the client has left."""


class Books(Protocol):
    """What a channel notes of what it has handed out, for all that have a seat."""

    at: bytes
    """The id of the last entry, as Redis writes it."""
    count: int
    """How many events."""
    written: float
    """When, by the loop's clock."""


class Follower(Protocol):
    """One that gets a message's entries as they come, once it has read what was before. Nothing here may block.

    wire: what it speaks. encoder: stands at its cursor until it is live. bound: how many bytes may wait for its socket.
    live: whether it takes what comes.
    """

    wire: Wire
    encoder: Encoder
    bound: int
    live: bool

    @property
    def cursor(self) -> Cursor | None:
        """The last entry that it has."""

    def take(self, batch: Batch, now: float) -> None:
        """Take live bytes: the encoding of everything between its cursor and the batch's last entry."""

    def sit(self, books: Books) -> Transport | None:
        """Return the transport to which the keeper of `books` writes for it from now on.

        None if that is impossible, or not allowed (yet): then each batch is handed over by `take`.
        """

    def fall_behind(self) -> None:
        """Forget what the socket did not take, and read it from the log."""

    def end(self, over: Over) -> None:
        """Note that what was written for it was the last of its stream."""

    def reattach(self) -> None:
        """Note that the log is not the one that it was reading."""

    def stop(self, outcome: Outcome) -> None:
        """End at the next event border."""
