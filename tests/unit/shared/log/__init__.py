"""Tests of shared.log that need one Redis only; its contract on every version stands in tests/contract."""
