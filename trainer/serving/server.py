"""The process: from a command line to a listening server, and the HTTP application that it serves."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from transformers.utils.logging import disable_progress_bar

from trainer.contract.logs import configure_logs, is_json
from trainer.contract.requests import RequestLog
from trainer.serving import admin, completions
from trainer.serving.body_limit import BodyLimit
from trainer.serving.completions import ClientLeft
from trainer.serving.errors import QueueFullError, ServingError, StoppingError, UnauthorizedError, body_of, error_body
from trainer.serving.model_server import ModelServer, start_model_server
from trainer.serving.settings import ADMIN_TOKEN_VARIABLE, ServerSettings, SettingsError, parse_settings

log = logging.getLogger(__name__)

SECONDS_TO_FINISH = 30
"""How long requests under way may go on after the server was told to stop."""


def serve(argv: Sequence[str] | None = None) -> int:
    """Start a model server as `argv` says and run it until SIGINT or SIGTERM; the exit status."""
    configure_logs("model server")
    disable_progress_bar()
    try:
        settings = parse_settings(argv, os.environ)
        listener = _listen(settings)
        server = start_model_server(settings)
    except (SettingsError, ServingError) as error:
        print(f"The model server did not start. {error}", file=sys.stderr)
        return 1
    _announce(settings, listener.getsockname()[1])
    config = uvicorn.Config(
        create_app(server),
        log_config=None,
        access_log=False,
        # Longer than clients keep an idle connection, or one could be closed under a request just sent.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        server.scheduler.stop()
    return 0


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"It cannot listen on {settings.host} port {settings.port}: {getattr(error, 'strerror', None) or error}. "
            "Choose another with --port or --host."
        ) from error


def _announce(settings: ServerSettings, port: int) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    said = f"Model server on http://{host}:{port}"
    if is_json():
        log.info(said)
    else:
        print(said, flush=True)
    if settings.admin_token_was_drawn:
        print(f"Admin token (set {ADMIN_TOKEN_VARIABLE} to choose your own): {settings.admin_token}", flush=True)


def create_app(server: ModelServer) -> FastAPI:
    """The HTTP application of a started model server."""
    app = FastAPI(title="Palate model server", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.server = server
    app.add_middleware(BodyLimit, max_bytes=server.settings.max_body_bytes)
    app.add_middleware(RequestLog)
    for router in (completions.router, admin.router, admin.health):
        app.include_router(router)
    app.add_exception_handler(ServingError, _answer_serving_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(ClientLeft, _answer_nobody)
    app.add_exception_handler(Exception, _answer_unexpected)
    return app


async def _answer_serving_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    headers = {}
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, QueueFullError | StoppingError):
        headers["Retry-After"] = "1"
    return JSONResponse(body_of(error), status_code=error.status, headers=headers)


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    """The first thing wrong with a body, named by its path; 400, as the OpenAI API answers."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = _field(first["loc"]) if first["type"] != "json_invalid" else None
    message, code = f"{field or 'The body'}: {first['msg']}", None
    if first["type"] == "extra_forbidden":
        message, code = f"'{field}' is not a parameter of this server. Leave it out.", "unsupported_parameter"
    body = error_body(message, type_="invalid_request_error", parameter=field, code=code)
    return JSONResponse(body, status_code=400)


def _field(location: Sequence[str | int]) -> str | None:
    """The path of a field, without pydantic's names for the branches of a union (`str`, `list[TextPart]`)."""
    parts = [str(part) for part in location if part not in {"body", "str"} and not str(part).startswith("list[")]
    return ".".join(parts) or None


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = error_body(f"{request.method} {request.url.path}: {error.detail}", type_="invalid_request_error")
    headers: Any = error.headers
    return JSONResponse(body, status_code=error.status_code, headers=headers)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    assert isinstance(error, ClientLeft)
    return Response(status_code=error.status)


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    return JSONResponse(body_of(error), status_code=500)
