"""The worker: takes messages from the queue, runs their generations and writes what they say to the log.

dispatch (arq) --> intake (claim) --> supervisor --> generation --> upstream (model or agent)
                                         |               | events, through inlet and grammar
                                         |               '--> writer --> log
                                         '--> ticker (deadlines, heartbeats), stops, drain
reaper: gives messages whose worker died to another one, ends those that nobody may attempt any more
"""
