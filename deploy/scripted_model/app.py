"""The application: routes over one world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Route

from deploy.scripted_model.chat_route import serve_chat
from deploy.scripted_model.control import list_models, reset_world, set_switch, show_health, show_journal
from deploy.scripted_model.endpoint import Endpoint
from deploy.scripted_model.responses_route import serve_responses
from deploy.scripted_model.responses_view import serve_cancel, serve_delete, serve_retrieve
from deploy.scripted_model.world import World


def create_app(world: World) -> Starlette:
    """Return the ASGI application over `world`; it needs the protocol of `connection.py`."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with world.running():
            yield

    kept = "/v1/responses/{response_id}"
    routes = [
        Route("/healthz", show_health),
        Route("/v1/models", list_models),
        Route("/v1/chat/completions", Endpoint(world, "chat", serve_chat), methods=["POST"]),
        Route("/v1/responses", Endpoint(world, "responses", serve_responses), methods=["POST"]),
        Route(kept, Endpoint(world, "responses.retrieve", serve_retrieve), methods=["GET"]),
        Route(kept, Endpoint(world, "responses.delete", serve_delete), methods=["DELETE"]),
        Route(f"{kept}/cancel", Endpoint(world, "responses.cancel", serve_cancel), methods=["POST"]),
        Route("/__log", show_journal),
        Route("/__reset", reset_world, methods=["POST"]),
        Route("/__faults", set_switch, methods=["POST"]),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.world = world
    return app
