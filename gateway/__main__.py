"""Starts one gateway: `python -m gateway`."""

import gc

gc.disable()  # what imports make stays, and need not be looked through again and again; `tune_collector` turns it on

from gateway.run import main  # noqa: E402

if __name__ == "__main__":
    main()
