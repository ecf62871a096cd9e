"""A scripted model behind a real OpenAI-compatible port, for demos, tests, chaos runs and benchmarks.

    body, headers ──> bodies ──> call (admission: directives, status, key counters, journal)
                                  │
    conversation ──> text/prose ──> script ──> playback ──> outlet ──> socket      (chat, foreground responses)
                                                       └──> record ──> viewers     (background responses)

What it says is a pure function of the conversation (`text.full_text` is the oracle); how fast, in what pieces and with
what faults is decided by directives in the prompt or in the body (`directives`). Run: python -m deploy.scripted_model
"""
