"""The demo page in a real Chromium, over a real local run. Screenshots of its states are kept in `.shots`."""
