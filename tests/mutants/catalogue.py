"""Every mutant there is. To add one: the safeguard's text, what stands there without it, and who must notice."""

from __future__ import annotations

from tests.mutants.answers import ANSWERS
from tests.mutants.cluster import CLUSTER
from tests.mutants.mutant import Mutant
from tests.mutants.reader import READER
from tests.mutants.scripts import MENDS, SCRIPTS, SEGMENTS

MUTANTS: tuple[Mutant, ...] = (*SCRIPTS, *SEGMENTS, *MENDS, *READER, *CLUSTER, *ANSWERS)
