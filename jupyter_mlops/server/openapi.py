"""The description of the REST interface (OpenAPI 3.1, https://spec.openapis.org/oas/v3.1.0), made from the routes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, TypeAdapter

from .._version import __version__
from .models import Problem
from .routes import ROUTES, Route

_REFERENCE = "#/components/schemas/{model}"
_PROBLEMS = {
    "400": "What was asked cannot be done as asked; nothing was created.",
    "403": "Not logged in, without the XSRF token, or not allowed.",
    "404": "There is no such thing.",
    "409": "It has ended already.",
    "500": "A setting of the server is wrong, or the server failed.",
    "503": "MLflow, Kubernetes or the store does not answer; the same request may do later.",
    "507": "The disk is full.",
}


def description(prefix: str = "/mlops", routes: Iterable[Route] = ROUTES) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        prefix: What comes before each path, the server's base URL included.
        routes: What there is.
    """
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(prefix + route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "jupyter-mlops", "version": __version__, "description": "Runs of notebooks."},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "Authorization",
                          "description": "`token TOKEN`, as Jupyter's server has it."}
            },
        },
        "security": [{"token": []}],
    }  # fmt: skip


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", route.path)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]
    if route.query is not None:
        schema = _schema(route.query, schemas, inline=True)
        for name, described in schema["properties"].items():
            parameters.append(
                {"name": name, "in": "query", "required": name in schema.get("required", []), "schema": described}
            )
    operation: dict[str, Any] = {
        "operationId": route.call.__name__,
        "summary": route.summary,
        "tags": [route.resource],
        "parameters": parameters,
        "responses": {
            str(route.status): {"description": "Done.", "content": _content(_schema(route.answer, schemas))},
            **{status: {"description": text, "content": _content(_schema(Problem, schemas))}
               for status, text in _PROBLEMS.items()},
        },
    }  # fmt: skip
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(_schema(route.body, schemas))}
    return operation


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _schema(kind: Any, schemas: dict[str, Any], *, inline: bool = False) -> dict[str, Any]:
    """The JSON schema of a type; the models in it go into `schemas` and are referred to."""
    schema = TypeAdapter(kind).json_schema(ref_template=_REFERENCE, mode="validation")
    for name, part in schema.pop("$defs", {}).items():
        schemas[name] = part
    if inline or not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return schema
    schemas[kind.__name__] = schema
    return {"$ref": _REFERENCE.format(model=kind.__name__)}


if __name__ == "__main__":  # for `make wire`
    sys.stdout.write(json.dumps(description(), indent=1, sort_keys=True) + "\n")
