"""Where answers come from: an adapter turns one kind of API, or a user's own function, into events.

`base` says what they have in common, `config` makes them from the models file, `retry` repeats what failed before the
first token. Only this package knows the SDK.
"""
