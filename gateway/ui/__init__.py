"""What the AI SDK's routes share: UI messages read, chats begun, places in a stream found."""
