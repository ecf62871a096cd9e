"""The log: entries of one message in a Redis Stream, owned through a lease and a fence.

`keys` names the keys, `lua/` holds the atomic steps, `scripts` loads them, `log` is the API.
"""
