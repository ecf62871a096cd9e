"""Owns the OpenAPI document, made from the table of operations and the types of their bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.errors import ErrorAnswer
from gateway.openai.openai_errors import PREFIX, OpenAIError
from gateway.routes.table import Answer, Operation, Parameter

_REFS = "#/components/schemas/{name}"
_JSON = "application/json"
_ERRORS = {
    400: "The request cannot be accepted as it is.",
    401: "No valid credential came with the request.",
    403: "This gateway does not answer to that Host or Origin.",
    404: "Not found, or somebody else's.",
    408: "The body did not arrive in time.",
    409: "The chat is busy, or the same id or key came with another body.",
    410: "It is over and no longer kept.",
    413: "The body is too large.",
    415: "The body is compressed.",
    422: "The answer reached the limit on its size.",
    429: "A bound on what may be in flight is reached.",
    500: "An unexpected error.",
    502: "The model failed.",
    503: "Not possible now.",
    504: "The answer took too long, or still goes on.",
}


def make_document(operations: Sequence[Operation], version: str, *, secured: bool) -> dict[str, Any]:
    """Return the document; `secured` is whether credentials are asked for at all."""
    types: list[type[Struct]] = [ErrorAnswer, OpenAIError]
    for operation in operations:
        types += [operation.body] if operation.body is not None else []
        types += [kind for kinds in operation.answers.values() for kind in kinds if isinstance(kind, type)]
    unique = list(dict.fromkeys(types))
    refs, schemas = msgspec.json.schema_components(unique, ref_template=_REFS)
    by_type = dict(zip(unique, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = operation.path.replace(":path}", "}")
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tailrace",
            "version": version,
            "description": "Answers of language models as logs that any number of viewers tail, resume and stop.",
        },
        "security": [{"bearer": []}, {"key": []}] if secured else [],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": schemas,
        },
    }


def _operation(operation: Operation, by_type: dict[type[Struct], Any]) -> dict[str, Any]:
    schema = by_type[OpenAIError if operation.path.startswith(PREFIX) else ErrorAnswer]
    out: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation.path), *map(_parameter, operation.parameters)],
        "responses": {
            **{str(status): _answer(kinds, by_type) for status, kinds in operation.answers.items()},
            **{str(status): _error(status, schema) for status in _refusals(operation)},
        },
    }
    if operation.body is not None:
        out["requestBody"] = {"required": True, "content": {_JSON: {"schema": by_type[operation.body]}}}
    if operation.public:
        out["security"] = []
    return out


def _refusals(operation: Operation) -> list[int]:
    common = (500,) if operation.public else (401, 403, 500)
    return sorted({*operation.errors, *common})


def _answer(kinds: tuple[Answer, ...], by_type: dict[type[Struct], Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for kind in kinds:
        if isinstance(kind, type):
            content[_JSON] = {"schema": by_type[kind]}
        elif kind != "empty":
            media = "text/event-stream" if kind == "stream" else "text/plain"
            content[media] = {"schema": {"type": "string"}}
    texts = [(kind.__doc__ or "").strip().split("\n")[0] for kind in kinds if isinstance(kind, type)]
    out: dict[str, Any] = {"description": texts[0] if texts else "As asked."}
    return {**out, "content": content} if content else out


def _error(status: int, schema: Any) -> dict[str, Any]:
    return {"description": _ERRORS[status], "content": {_JSON: {"schema": schema}}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": 256}
    return [
        {"name": name, "in": "path", "required": True, "schema": schema, "description": "1 to 256 bytes of UTF-8."}
        for name in re.findall(r"{(\w+)(?::path)?}", path)
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if parameter.pattern is not None:
        schema["pattern"] = parameter.pattern
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    if parameter.lengths:
        schema["minLength"], schema["maxLength"] = parameter.lengths
    return {"name": parameter.name, "in": parameter.place, "description": parameter.text, "schema": schema}
