"""Mutants: the sources with one safeguard taken out. Each must be killed by a test, or the safeguard is not tested.

`make mutants` runs them all and prints a table; `tests.mutants.test_catalogue`, a part of `make test`, only sees to
it that every mutant still applies to the sources and names tests that exist.
"""
