"""The AI SDK's wire over HTTP, with logs that the tests write themselves. The real clients: `test_client_ai_sdk`."""
