"""Owns making upstreams from the models file; the only place that reads a key."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
import httpx2
import openai
from openai import DefaultAioHttpClient

from shared.ids import MessageRef
from shared.jobs import Run
from shared.models import Models, ModelSpec
from worker.settings import WorkerSettings
from worker.upstreams.agent import load_agent
from worker.upstreams.base import CancelsRuns, Upstream, call_headers
from worker.upstreams.chat_completions import ChatCompletions
from worker.upstreams.responses import Responses
from worker.upstreams.retry import RetryBudget

log = logging.getLogger(__name__)


class Upstreams:
    """The worker's upstreams by model name, and the connections that they share."""

    def __init__(self, models: Models, settings: WorkerSettings, environment: Mapping[str, str]) -> None:
        """Raise `ValueError` if an agent cannot be imported. Call `close` in the end."""
        self.models = models
        self._settings = settings
        self._environment = environment
        self._http: httpx.AsyncClient | None = None
        self._clients: list[openai.AsyncOpenAI] = []
        self._upstreams = {spec.name: self._make(spec) for spec in models}

    def get(self, name: str) -> Upstream | None:
        """Return the upstream of that model."""
        return self._upstreams.get(name)

    async def cancel(self, run: Run) -> bool:
        """Cancel a run that nobody will attach to again; return whether it is over. Raises `InvalidId`."""
        upstream: object = self._upstreams.get(run.model)
        headers = call_headers(MessageRef.parse_member(run.member), run.attempt)
        return isinstance(upstream, CancelsRuns) and await upstream.cancel_run(run.id, headers)

    def http(self) -> httpx.AsyncClient:
        """Return the HTTP client that agents share."""
        if self._http is None:
            # A tool takes as long as it takes; the message's own deadlines bound everything else.
            timeout = httpx.Timeout(None, connect=self._settings.connect_s)
            # As many calls at a time as the agents make: with httpx's 100, those of the other slots would wait.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
            self._http = httpx.AsyncClient(
                timeout=timeout, limits=limits, follow_redirects=False, cookies=_no_cookies()
            )
        return self._http

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients:
            await client.close()
        if self._http is not None:
            await self._http.aclose()

    def _make(self, spec: ModelSpec) -> Upstream:
        budget = RetryBudget(self._settings.retry_s, self._settings.retry_times)
        direct = self._settings.direct_reads
        match spec.kind:
            case "agent":
                return load_agent(spec.agent)
            case "chat_completions":
                return ChatCompletions(spec, self._client(spec), budget, direct)
            case "responses":
                return Responses(spec, self._client(spec), budget, direct)

    def _client(self, spec: ModelSpec) -> openai.AsyncOpenAI:
        slots = self._settings.worker_slots
        http = DefaultAioHttpClient(
            # Silence is judged by tokens, not by bytes: pings would keep a read timeout from ever firing.
            timeout=httpx2.Timeout(None, connect=self._settings.connect_s),
            limits=httpx2.Limits(max_connections=slots + 16, max_keepalive_connections=min(slots, 100)),
            # A redirect could lead into the private network; an upstream's URL is configured, not negotiated.
            follow_redirects=False,
            cookies=_no_cookies(),
        )
        client = openai.AsyncOpenAI(
            api_key=self._key(spec) or "none",
            base_url=spec.url,
            max_retries=0,
            default_headers=spec.extra_headers,
            http_client=http,
            timeout=httpx2.Timeout(None, connect=self._settings.connect_s),
        )
        self._clients.append(client)
        return client

    def _key(self, spec: ModelSpec) -> str:
        """Return the model's key. One that is named and not there is said and no more: the other models work."""
        # A secret that was made of a file ends with its line feed, which no header can hold.
        key = self._environment.get(spec.key_env, "").strip() if spec.key_env else ""
        if spec.key_env and not (key.isascii() and key.isprintable() and key):
            fields = {"model": spec.name, "variable": spec.key_env}
            log.warning("model without its key: the variable is unset, empty or unsendable", extra=fields)
            return ""
        return key


def _no_cookies() -> CookieJar:
    """Return a jar that stays empty.

    A client is shared by the generations of all users: one's session is not another's, and none shall bind a worker to
    one server behind a balancer.
    """
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))
