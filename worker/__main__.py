"""Starts one worker: `python -m worker`. Settings come from the environment; exit code 2 says that they are wrong."""

import gc
import sys

gc.disable()  # what imports make stays, and need not be looked through again and again; `tune_collector` turns it on

from worker.run import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
