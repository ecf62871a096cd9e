"""What the tests share: real servers and the means to make them fail. What to take for what:

A Redis: the fixtures `redis_url`, `emptied_redis` (a file's own) and `start_redis` (to kill and freeze) of
`tests/conftest.py`. `redis` finds the server, `redis_process` and `redis_container` run it; `redis_cluster` for nodes.
A log written by hand: `log` (each operation in a word, lost time, a failover, a full Redis), `writer` (an owner of one
message), `openai_kit` and `ui_chat` (the same beneath those wires).
A gateway in the test's own loop: `gateway`; its clients: httpx, `sockets` (WebSocket), `node` (programs of JavaScript).
Real processes: `processes` (any of ours, killed and frozen), `road` (a whole row of them).
A bad network: `fault_proxy`. Ports: `ports`. A condition without an event of its own: `wait`. Deaf work: `deaf`.
Logs and events made up by hypothesis: `openai_logs`, `events`.
"""
