"""What the OpenAI routes share: requests read, conversations rebuilt, errors in OpenAI's shape."""
