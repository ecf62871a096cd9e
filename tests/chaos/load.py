"""Owns the load: messages that keep coming, the clients that watch each, and what people do to them.

One session is one message: started (often twice, as retries do), watched by one to four clients of different habits,
now and then stopped, deleted or replaced. Tasks: one per session and client, owned by the load and ended by `finish`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from tests.chaos.check.texts import VARY
from tests.chaos.records import Act, Probe, Recorder, Start
from tests.chaos.sockets import SocketViewer
from tests.chaos.viewers import ALICE, BOB, BackgroundResponse, ChatCompletion, Client, Habits, UiChat, Viewer
from tests.chaos.wire import ask

Kind = Literal["native", "chat_completions", "responses", "ui"]
WIRES: tuple[Kind, ...] = ("chat_completions", "responses", "ui")
START_WITHIN_S = 60.0
STEADY = Habits()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """How much of what. The shares are chances per session."""

    sessions: int = 14
    tokens: tuple[int, int] = (40, 220)
    rate: int = 20
    other_wires: float = 0.25
    stops: float = 0.1
    deletes: float = 0.05
    replaces: float = 0.06
    fat: float = 0.05
    fat_tokens: int = 20_000
    fat_pace: str = "rate=0 chunk=20"
    """As fast as can be; or so that who follows from the beginning is live first, and falls behind then."""
    slow: int = 1
    """Slow clients of each fat message."""
    cutters: float = 0.7
    twins: float = 0.3
    sockets: float = 0.25
    models: tuple[str, ...] = ("continue", "continue", "restart", "attach")
    directives: str = ""


class Load:
    """Keeps `sessions` messages in flight until told to stop."""

    def __init__(self, client: Client, recorder: Recorder, settings: LoadSettings, seed: int) -> None:
        self._client = client
        self._recorder = recorder
        self._settings = settings
        self._seed = seed
        self._rng = random.Random(f"load-{seed}")
        self._tasks: set[asyncio.Task[None]] = set()
        self._driver: asyncio.Task[None] | None = None
        self._count = 0
        self._running = 0
        self.broken: list[BaseException] = []

    def open(self) -> None:
        """Begin."""
        self._driver = asyncio.create_task(self._drive(), name="load")

    async def stop(self) -> None:
        """Start nothing new."""
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.wait([self._driver])

    async def finish(self, within_s: float) -> int:
        """Wait for every session and client; return how many did not end in time (they are cancelled)."""
        await self.stop()
        self._client.hurry = True
        self._client.give_up_at = time.monotonic() + within_s
        end = time.monotonic() + within_s + 15.0
        while self._tasks and time.monotonic() < end:
            await asyncio.wait(self._tasks, timeout=end - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        late = list(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as one of ours."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken.append(error)

    async def _drive(self) -> None:
        while True:
            while self._running < self._settings.sessions:
                self._running += 1
                self._count += 1
                self.spawn(self._session(self._count))
                await asyncio.sleep(self._rng.uniform(0.0, 0.1))
            if self._rng.random() < 0.2:
                self.spawn(self._probe())
            await asyncio.sleep(0.1)

    async def _session(self, number: int) -> None:
        rng = random.Random(f"{self._seed}-{number}")
        try:
            if rng.random() < self._settings.other_wires:
                await self._openai(number, rng)
            else:
                await self._native(number, rng)
        finally:
            self._running -= 1

    # -- native sessions

    async def _native(self, number: int, rng: random.Random) -> None:
        settings = self._settings
        chat, message = f"chat-{self._seed}-{number}", f"msg-{self._seed}-{number}"
        start = self._new_start(rng, chat, message, "native")
        twice = rng.random() < 0.15
        bodies = self.spawn(self.start(start))
        if twice:
            self.spawn(self.start(Start(chat, message, "native", start.model, start.prompt, time.time())))
        await bodies
        if not start.accepted:
            return
        watchers = [self.spawn(self._viewer(number, chat, message, "a", STEADY).run())]
        if rng.random() < settings.cutters:
            habits = Habits(cut=0.9, most_bytes=rng.choice((900, 4000, 12_000)))
            watchers.append(self.spawn(self._viewer(number, chat, message, "cut", habits).run()))
        if rng.random() < settings.twins:
            habits = Habits(cut=0.3, snapshot=rng.random() < 0.3)
            watchers.append(self.spawn(self._viewer(number, chat, message, "twin", habits).run()))
        if rng.random() < settings.sockets:
            socket = SocketViewer(self._client, f"{message}.ws", chat, message, Habits(cut=0.3))
            watchers.append(self.spawn(socket.run()))
        for slow in range(settings.slow if settings.fat_pace in start.prompt else 0):
            habits = Habits(bytes_per_s=20_000, cut=0.3, most_bytes=100_000)
            watchers.append(self.spawn(self._viewer(number, chat, message, f"slow{slow}", habits).run()))
        await self._interfere(rng, number, chat, message)
        await asyncio.wait(watchers)

    async def _interfere(self, rng: random.Random, number: int, chat: str, message: str) -> None:
        settings = self._settings
        dice = rng.random()
        if dice < settings.stops + settings.deletes + settings.replaces:
            await asyncio.sleep(rng.uniform(0.2, 4.0))
        if dice < settings.stops:
            await self.act(Act("stop", chat, message, time.time()))
        elif dice < settings.stops + settings.deletes:
            await self.act(Act("delete", chat, message, time.time()))
        elif dice < settings.stops + settings.deletes + settings.replaces:
            act = Act("replace", chat, message, time.time())
            start = self._new_start(rng, chat, f"{message}-next", "native")
            await self.start(start, policy="replace")
            act.accepted = start.accepted
            self._recorder.put(act)
            if start.accepted:
                await self._viewer(number, chat, start.message, "next", STEADY).run()

    def _viewer(self, number: int, chat: str, message: str, what: str, habits: Habits) -> Viewer:
        return Viewer(self._client, f"{message}.{what}", chat, message, habits)

    def _new_start(self, rng: random.Random, chat: str, message: str, wire: Kind) -> Start:
        settings = self._settings
        low, high = settings.tokens
        tokens = rng.randint(low, high)
        words = f"tokens={tokens} rate={settings.rate}"
        if rng.random() < settings.fat:
            words = f"tokens={settings.fat_tokens} {settings.fat_pace}"
        model = rng.choice(settings.models)
        if model == "restart":  # an answer that was begun anew must be told from a mixture of two
            words += f" {VARY}"
        prompt = f"Tell me about matter {message} [[{words} reasoning=0 {settings.directives}]]"
        return Start(chat, message, wire, model, prompt.replace(" ]]", "]]"), time.time())

    async def start(self, start: Start, policy: str | None = None) -> None:
        """Start a message, as often as it takes; write down what came of it."""
        body = {
            "messages": [{"role": "user", "content": start.prompt}],
            "model": start.model,
            "message_id": start.message,
            **({"policy": policy} if policy else {}),
        }
        path = f"/chats/{start.chat}/messages"
        start.accepted = await self._insist("POST", path, body, start.statuses, (202, 200))
        self._recorder.put(start)

    async def act(self, act: Act) -> None:
        """Stop or delete, as often as it takes."""
        path = f"/chats/{act.chat}/messages/{act.message}"
        method, path = ("DELETE", path) if act.what == "delete" else ("POST", f"{path}/stop")
        act.accepted = await self._insist(method, path, None, act.statuses, (200, 202, 204))
        self._recorder.put(act)

    async def _insist(
        self, method: str, path: str, body: object, statuses: list[tuple[float, int]], good: tuple[int, ...]
    ) -> float:
        end = time.monotonic() + START_WITHIN_S
        while time.monotonic() < min(end, self._client.give_up_at):
            reply = await ask(self._client.balancer.port, method, path, ALICE, body)
            statuses.append((time.time(), reply.status))
            if reply.status in good:
                return time.time()
            if 400 <= reply.status < 500 and reply.status != 429:
                return 0.0
            await asyncio.sleep(self._rng.uniform(0.1, 0.4))
        return 0.0

    # -- other wires and other people

    async def _openai(self, number: int, rng: random.Random) -> None:
        key = f"key-{self._seed}-{number}"
        start = self._new_start(rng, "", key, rng.choice(WIRES))
        habits = Habits(cut=0.5, most_bytes=30_000, pause_s=(0.05, 0.4))
        viewer: Viewer
        if start.wire == "ui":
            message = {"id": "user-1", "role": "user", "parts": [{"type": "text", "text": start.prompt}]}
            ui_body: dict[str, Any] = {"model": start.model, "messages": [message]}
            viewer = UiChat(self._client, f"{key}.u", f"ui-{key}", ui_body, habits)
        elif start.wire == "responses":
            body = {"model": start.model, "input": start.prompt}
            viewer = BackgroundResponse(self._client, f"{key}.r", key, body, habits)
        else:
            body = {"model": start.model, "messages": [{"role": "user", "content": start.prompt}]}  # type: ignore[dict-item]
            viewer = ChatCompletion(self._client, f"{key}.c", key, body, habits)
        await viewer.run()
        start.chat, start.message = viewer.chat, viewer.message
        start.accepted = start.began if viewer.message else 0.0
        self._recorder.put(start)

    async def _probe(self) -> None:
        """Ask for what is somebody else's, and without a credential."""
        number = self._rng.randint(max(1, self._count - 10), self._count)
        path = f"/chats/chat-{self._seed}-{number}/messages/msg-{self._seed}-{number}"
        what, headers = self._rng.choice((("other tenant", BOB), ("nobody", {})))
        method, path = self._rng.choice((("GET", path), ("GET", f"{path}/stream"), ("POST", f"{path}/stop")))
        reply = await ask(self._client.balancer.port, method, path, headers)
        self._recorder.put(Probe(what, time.time(), reply.status))
