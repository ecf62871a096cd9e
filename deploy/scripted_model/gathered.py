"""What an answer has said so far, kept for whole responses, final objects and usage numbers."""

from __future__ import annotations

from deploy.scripted_model.script import Part, Piece


class Gathered:
    """The pieces of one answer, joined by part."""

    def __init__(self) -> None:
        self.reasoning_tokens = 0
        self.tokens = 0
        self._parts: list[tuple[Part, list[str]]] = []

    def add(self, piece: Piece) -> bool:
        """Take `piece`; return whether it is the first of its part."""
        self.tokens += piece.tokens
        if piece.part.kind == "reasoning":
            self.reasoning_tokens += piece.tokens
        first = not self._parts or self._parts[-1][0] is not piece.part
        if first:
            self._parts.append((piece.part, []))
        self._parts[-1][1].append(piece.text)
        return first

    def parts(self) -> list[tuple[Part, str]]:
        """Return what each part has said."""
        return [(part, "".join(texts)) for part, texts in self._parts]

    @property
    def called_tools(self) -> bool:
        """Whether there is a tool call among the parts."""
        return any(part.kind == "tool" for part, _ in self._parts)
