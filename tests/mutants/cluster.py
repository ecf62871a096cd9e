"""The cluster link without what keeps it right while slots move and nodes die."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_LINK = "tests/contract/test_cluster_link.py::test_"
_MOVES = "tests/contract/test_cluster_moves.py::test_"
_FAILOVER = "tests/contract/test_cluster_failover.py::test_"


def _cluster(name: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(f"cluster: {name}", "shared/cluster.py", old, new, (test,))


CLUSTER = (
    _cluster(
        "an ASK is followed without ASKING",
        "packed, end - loop.time(), asked is not None)", "packed, end - loop.time(), False)",
        _MOVES + "a_slot_moves_while_its_log_is_written",
    ),
    _cluster(
        "MOVED waits for the map", "self._owners[redirect.slot] = member", "pass",
        _MOVES + "a_map_that_is_out_of_date_is_put_right",
    ),
    _cluster("the map is never read again", "self._wanted.set()", "pass", _FAILOVER + "a_replica_takes_over"),
    _cluster(
        "WAIT goes to whoever is first",
        "owner, (asked, at) = self._owners[slot],", "owner, (asked, at) = self._all_primaries()[0],",
        _FAILOVER + "a_start_waits_for_the_replica_of_its_own_primary",
    ),
    _cluster(
        "the sweep ends with the first primary",
        'return f"0@{rest[1].place}" if len(rest) > 1 else "0", keys', 'return "0", keys',
        _LINK + "a_sweep_looks_at_every_primary",
    ),
)  # fmt: skip
