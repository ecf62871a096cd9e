"""Owns what a mutant is: one text in one file, what it becomes, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` stands exactly once in `file`; `tests` are pytest's node ids without parameters."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def source(self, root: Path = ROOT) -> str:
        """Return the file as it is."""
        return (root / self.file).read_text(encoding="utf-8")

    def mutated(self, root: Path = ROOT) -> str:
        """Return the file as the mutant has it; raise `ValueError` if the mutant does not apply any more."""
        source = self.source(root)
        if source.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: {self.old!r} stands {source.count(self.old)} times in {self.file}, not once"
            )
        return source.replace(self.old, self.new)
