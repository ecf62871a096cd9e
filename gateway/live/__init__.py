"""The live side: one tail a message, viewers that follow it, and the streaming response around a viewer."""
