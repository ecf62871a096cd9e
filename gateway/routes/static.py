"""Owns the demo page and the browser client: files of the package, the same for everybody, read once."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePath

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.routes.table import Operation
from gateway.settings import GatewaySettings
from shared.errors import NotFound
from shared.events import encode_json

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
}
"""What is served at all, and as what."""
PAGE = "index.html"
HEADERS = {
    # Asked for every time, answered by 304 mostly: a new release is seen at once.
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# Only our own scripts and styles, whatever the answers say that the page shows. It may call other gateways.
POLICY = (
    "default-src 'none'; script-src 'self'%s; style-src 'self'; img-src 'self' data:; connect-src *; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'none'"
)
_INLINE = re.compile(rb"<script[^>]*>(.*?)</script>", re.DOTALL)


class PageConfig(Struct, frozen=True):
    """What the page must know before it asks anything: whether it needs a key, and what else runs on this machine."""

    open: bool
    local: bool
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served."""

    body: bytes
    media_type: str
    etag: str


def load_files() -> dict[str, File]:
    """Return the package's static files by name."""
    folder = files("gateway") / "static"
    found = {}
    for entry in folder.iterdir() if folder.is_dir() else ():
        suffix = PurePath(entry.name).suffix
        if suffix in TYPES:
            body = entry.read_bytes()
            found[entry.name] = File(body, TYPES[suffix], f'"{sha256(body).hexdigest()[:32]}"')
    return found


def content_security_policy(page: bytes) -> str:
    """Return the policy under which `page` runs: what it says in a script of its own is named by its hash."""
    digests = (b64encode(sha256(script).digest()).decode() for script in _INLINE.findall(page))
    return POLICY % "".join(f" 'sha256-{digest}'" for digest in digests)


def make_operations(known: Mapping[str, File], settings: GatewaySettings) -> tuple[Operation, ...]:
    """Return the page at `/`, its configuration, and the files at `/static/<name>`."""
    config = encode_json(PageConfig(settings.open, settings.local and settings.open, settings.peers))
    policy = content_security_policy(known[PAGE].body if PAGE in known else b"")

    def serve(request: Request, name: str) -> Response:
        file = known.get(name)
        if file is None:
            raise NotFound("not found")
        headers = {**HEADERS, "content-security-policy": policy, "etag": file.etag}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers={**headers, "content-type": file.media_type})

    async def page(request: Request) -> Response:
        return serve(request, PAGE)

    async def static(request: Request) -> Response:
        return serve(request, request.path_params["name"])

    async def page_config(request: Request) -> Response:
        return Response(config, media_type="application/json", headers={"cache-control": "no-store"})

    return (
        Operation(
            name="page", method="GET", path="/", handler=page, summary="The demo page.",
            answers={200: ("text",)}, public=True,
        ),
        Operation(
            name="page_config", method="GET", path="/static/config.json", handler=page_config,
            summary="What the demo page must know.", answers={200: (PageConfig,)}, public=True,
        ),
        Operation(
            name="static", method="GET", path="/static/{name}", handler=static, summary="A file of the demo page.",
            answers={200: ("text",)}, public=True,
        ),
    )  # fmt: skip
