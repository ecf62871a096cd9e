"""The HTTP surface: parse, call a use case, answer. `table` says what an operation is; every module lists its own."""
