"""What the gateway and the worker agree on.

    client --POST--> gateway --CREATE--> Redis <--CLAIM-- worker --> model
                        |                 log  <--APPEND--  |
    client <--SSE-- gateway <--tail-------'   <--FINISH-----'

`PROTOCOL.md` beside this file is the normative text; `shared.log` is the only code that touches
the keys of the log.
"""
