"""Fuzz tests of everything that a stranger can say to a gateway: paths, queries, headers, bodies, frames, raw bytes.

Some seconds each, with the same examples in every run. `TAILRACE_FUZZ_SECONDS=600` looks for new ones, for about so
long.
"""
