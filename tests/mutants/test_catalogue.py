"""The catalogue keeps up with the sources: a mutant that no longer applies, or whose test is gone, tests nothing."""

from __future__ import annotations

import re

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_and_its_tests_exist(mutant: Mutant) -> None:
    assert mutant.mutated() != mutant.source()
    for test in mutant.tests:
        path, _, name = test.partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), test


def test_every_safeguard_that_was_promised_has_a_mutant() -> None:
    names = " | ".join(mutant.name for mutant in MUTANTS)
    promised = [
        "no token check", "no claim marker", "gap allowed", "duplicate not skipped", "finish not idempotent",
        "lease ignored", "INCR epoch", "no compare on active",
        *(f"mend {row}:" for row in (1, 2, 3, 4, 5, 6, 8, 9, 10, 11)),
    ]  # fmt: skip
    assert [name for name in promised if name not in names] == []
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
