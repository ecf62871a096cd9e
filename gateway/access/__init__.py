"""Who is asking: keys, tokens, tickets, and the principal that they amount to."""
