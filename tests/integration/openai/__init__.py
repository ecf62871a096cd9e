"""OpenAI's routes, as its SDKs use them."""
