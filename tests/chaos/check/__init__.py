"""The offline checker: reads a run's artefacts and holds them against the thirteen invariants."""
