"""Every route described as OpenAPI, forms included: production hands out no such description, so tests build it."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

LEFT_OUT = {"accounts:sign_out"}
"""Ends the very sign-in that the others need; tested by hand."""

FORM = "application/x-www-form-urlencoded"


def described(app: FastAPI, *, safe: bool) -> dict[str, Any]:
    """The safe or the unsafe routes as OpenAPI. A form's fields are those of its schema, and any text will do for
    each: a browser checks nothing that it was not told to.
    """
    api = get_openapi(title="Palate", version="1", routes=app.routes)
    components = api.setdefault("components", {}).setdefault("schemas", {})
    chosen: dict[str, Any] = {}
    for route in iter_route_contexts(app.routes):
        if not isinstance(route.original_route, APIRoute) or route.name in LEFT_OUT:
            continue
        for method in route.methods or ():
            if (method == "GET") is not safe:
                continue
            operation = api["paths"][str(route.path_format)][method.lower()]
            if fields := form_of(route.dependant):
                operation["requestBody"] = {"content": {FORM: {"schema": fields}}}
            chosen.setdefault(str(route.path_format), {})[method.lower()] = operation
    return {**api, "paths": chosen, "components": {"schemas": components}}


def form_of(dependant: Dependant) -> dict[str, Any] | None:
    """The form that a route reads, every field a text of any kind."""
    schemas = list(_schemas(dependant))
    names = {name: info for schema in schemas for name, info in schema.model_fields.items()}
    if not names:
        return None
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": sorted(name for name, info in names.items() if info.is_required()),
    }


def _schemas(dependant: Dependant) -> Iterator[type[BaseModel]]:
    schema = getattr(dependant.call, "schema", None)
    if schema is not None:
        yield schema
    for part in dependant.dependencies:
        yield from _schemas(part)
