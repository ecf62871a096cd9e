"""The gateway: who is asking, starting and stopping, and delivering logs to any number of viewers.

    request --> errors --> auth --> routes --+--> start, stop, reading  --> the log
                                             +--> streaming --> hub     --> the log, tailed

It holds nothing that matters: every replica answers every request, and one that dies costs its viewers a
reconnect. `app` puts the parts together, `services` is what the routes get to work with.
"""
