"""Draws flame graphs of a gateway and a worker under load into .bench/: `make flame`.

200 answers of 25 tokens a second through both, sampled for some seconds by py-spy, which `make bench-setup` installs.
"""

from __future__ import annotations

import sys
import time

from tests.bench import services
from tests.bench.rig import BUILD, MEASURED, OTHERS, Rig, rig

SPY = BUILD / "peers" / "bin" / "py-spy"
SECONDS = 5
RUNNING = 200


def sample(it: Rig, name: str) -> None:
    """Sample one of the rig's processes into `.bench/flame-<name>.svg`."""
    target = BUILD / f"flame-{name}.svg"
    how = ["-d", str(SECONDS), "-r", "200", "-f", "flamegraph", "-o", str(target)]
    it.spawn("spy", [str(SPY), "record", "-p", str(it.pids[name]), *how]).wait(SECONDS + 30)
    print(target if target.exists() else f"nothing sampled; see {it.folder}/spy.log")


def main() -> int:
    """Run as a command."""
    if not SPY.exists():
        print("py-spy is not there: make bench-setup")
        return 2
    with rig() as it:
        it.redis()
        services.model(it, 25, 100_000)
        services.gateway(it, name="server", core=OTHERS)
        services.worker(it, core=MEASURED)
        it.pids["gateway"] = it.pids["server"]
        for number in range(RUNNING):
            services.start(it, f"c{number}", message_id="m")
        load = ["-p", str(it.port), "-n", str(RUNNING), "-S", str(RUNNING), *services.STREAM, "-d", "60"]
        it.spawn("load", [str(BUILD / "load"), *load])
        time.sleep(2)
        for name in ("gateway", "worker"):
            sample(it, name)
        it.end(hard=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
