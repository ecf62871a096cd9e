"""The tests; helpers for several of them are in `tests.support`."""
