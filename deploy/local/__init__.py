"""Everything on one machine, for a first look and for development: what `make run` starts.

    launcher --starts--> redis, model, worker, gateway-1, gateway-2      (each in its own process group)
             --probes--> until each is ready, then watches: a child that dies is started again
             --writes--> RUN_DIR/*.log, RUN_DIR/children.json, RUN_DIR/upstreams.toml

`settings` reads the environment, `plan` decides what runs with which settings, `child` is one process, `crew` all of
them, `__main__` the signals and what is printed. Standard library only.
"""
