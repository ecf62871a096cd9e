"""All children together: started in stages, kept alive, stopped in the opposite order.

Tasks: one keeper a child, inside `keep`, which the caller cancels before `stop`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.local.child import Child, ChildSpec
from deploy.local.settings import LaunchError

_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_LIVED_LONG_S = 10.0


class Crew:
    """The children of one launch and the file that names them."""

    def __init__(self, stages: Sequence[Sequence[ChildSpec]], run_dir: Path, say: Callable[[str], None]) -> None:
        self._stages = [[Child(spec, run_dir / f"{spec.name}.log", say) for spec in stage] for stage in stages]
        self._pid_file = run_dir / "children.json"
        self._say = say

    @property
    def _children(self) -> list[Child]:
        return [child for stage in self._stages for child in stage]

    async def start(self, ready_within_s: float) -> None:
        """Start stage after stage, each once the one before is ready; raise `LaunchError` if one does not get there."""
        for stage in self._stages:
            for child in stage:
                await child.start()
            self._note_pids()
            results = await asyncio.gather(
                *(child.wait_ready(ready_within_s) for child in stage), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def keep(self) -> None:
        """Start again whatever dies, until cancelled."""
        async with asyncio.TaskGroup() as keepers:
            for child in self._children:
                keepers.create_task(self._keep(child), name=f"keep {child.spec.name}")

    async def stop(self) -> None:
        """Stop the children, the last stage first: viewers are told before the log goes away."""
        for stage in reversed(self._stages):
            await asyncio.gather(*(child.stop() for child in stage))
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill every child at once, for a user who will not wait."""
        for child in self._children:
            child.kill()

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            began = loop.time()
            pid = child.pid
            how = await child.wait()
            self._note_pids()
            deaths = 1 if loop.time() - began > _LIVED_LONG_S else deaths + 1
            pause_s = _PAUSES_S[min(deaths, len(_PAUSES_S)) - 1]
            self._say(f"{child.spec.name} (pid {pid}) {how}; starting it again.")
            await asyncio.sleep(pause_s)
            await child.start()
            self._note_pids()
            try:
                await child.wait_ready(30.0)
            except LaunchError as error:
                self._say(str(error))
            else:
                self._say(f"{child.spec.name} is back (pid {child.pid}).")

    def _note_pids(self) -> None:
        pids = {child.spec.name: child.pid for child in self._children if child.pid is not None}
        # Readers must never see half a file, so it is put in place whole.
        fresh = self._pid_file.with_suffix(".new")
        fresh.write_text(json.dumps(pids, indent=1) + "\n", encoding="utf-8")
        os.replace(fresh, self._pid_file)
