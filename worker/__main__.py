"""Starts one worker: `python -m worker`. Settings come from the environment; exit code 2 says that they are wrong."""

import gc
import os
import signal
import sys

# Until the worker has its own: as process 1, which a container's is, it would not hear one while agents are imported.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
gc.disable()  # what imports make stays, and need not be looked through again and again; `tune_collector` turns it on

from worker.run import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
