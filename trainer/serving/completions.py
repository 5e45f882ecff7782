"""The public face: `/v1/models` and `/v1/chat/completions`, as OpenAI clients expect them."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

from fastapi import APIRouter, Depends, Request

from trainer.serving.access import require_api_key
from trainer.serving.chat_task import ChatTask, Completed
from trainer.serving.decoding import Choice, Sampling
from trainer.serving.errors import InvalidRequestError, ModelNotFoundError
from trainer.serving.model_server import ModelServer, TheServer
from trainer.serving.sampling import fresh_seed
from trainer.serving.schemas import ChatCompletionRequest
from trainer.serving.versions import ModelVersion

router = APIRouter(prefix="/v1", dependencies=[Depends(require_api_key)])

_CLIENT_HAS_GONE = 499
"""Nobody reads this answer; the status (nginx's) is for the log."""


@router.get("/models")
async def list_models(server: TheServer) -> dict[str, Any]:
    """Every name that a request may use: versions, then aliases."""
    versions = {version.name: version for version in server.registry.versions()}
    aliases = server.registry.aliases()
    entries = [_model_entry(name, version, alias=False) for name, version in versions.items()]
    entries += [_model_entry(alias, versions[name], alias=True) for alias, name in aliases.items() if name in versions]
    return {"object": "list", "data": entries}


@router.get("/models/{name:path}")
async def show_model(name: str, server: TheServer) -> dict[str, Any]:
    """One of them."""
    for entry in (await list_models(server))["data"]:
        if entry["id"] == name:
            found: dict[str, Any] = entry
            return found
    raise ModelNotFoundError(f"The model '{name}' is not loaded here.", parameter="model")


def _model_entry(name: str, version: ModelVersion, *, alias: bool) -> dict[str, Any]:
    described = {
        "kind": "alias" if alias else "version",
        "version": version.name,
        "sha256": version.sha256,
        "context_tokens": version.context_tokens,
        "tokenizer_sha256": version.tokenizer_sha256,
        "chat_template_sha256": version.chat_template_sha256,
    }
    return {"id": name, "object": "model", "created": version.loaded_at, "owned_by": "palate", "palate": described}


@router.post("/chat/completions")
async def create_chat_completion(wanted: ChatCompletionRequest, request: Request, server: TheServer) -> dict[str, Any]:
    """Draw `n` completions of the messages; a client that leaves takes its request with it."""
    wanted.refuse_what_we_lack()
    sampling = _sampling(wanted, server)
    limit, messages = wanted.completion_limit(), [message.as_message() for message in wanted.messages]
    lease = server.registry.lease(wanted.model)
    version = lease.version
    task = ChatTask(lease, messages, sampling, limit=limit, default_limit=server.settings.default_max_tokens)
    future = asyncio.wrap_future(server.scheduler.submit(task))
    completed = await _unless_the_client_leaves(future, request)
    return _reply(version, sampling, completed)


def _sampling(wanted: ChatCompletionRequest, server: ModelServer) -> Sampling:
    """The request's sampling with defaults filled in; its length is settled once the prompt has been read."""
    choices = wanted.n or 1
    if choices > server.settings.max_choices:
        raise InvalidRequestError(f"n may be at most {server.settings.max_choices} on this server.", parameter="n")
    return Sampling(
        choices=choices,
        temperature=1.0 if wanted.temperature is None else wanted.temperature,
        top_p=1.0 if wanted.top_p is None else wanted.top_p,
        max_tokens=0,
        seed=fresh_seed() if wanted.seed is None else wanted.seed,
        stop=wanted.stop_strings(),
    )


async def _unless_the_client_leaves(future: asyncio.Future[Completed], request: Request) -> Completed:
    leaving = asyncio.create_task(_client_left(request))
    try:
        either: set[asyncio.Future[Any]] = {future, leaving}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise ClientLeft
        return future.result()
    finally:
        leaving.cancel()
        future.cancel()


class ClientLeft(Exception):
    """The client closed its connection before its answer was ready."""

    status = _CLIENT_HAS_GONE


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _reply(version: ModelVersion, sampling: Sampling, completed: Completed) -> dict[str, Any]:
    completion_tokens = sum(len(choice.token_ids) for choice in completed.choices)
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": version.name,
        "choices": [_choice(index, choice) for index, choice in enumerate(completed.choices)],
        "usage": {
            "prompt_tokens": completed.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": completed.prompt_tokens + completion_tokens,
        },
        "palate": {
            "sha256": version.sha256,
            "tokenizer_sha256": version.tokenizer_sha256,
            "chat_template_sha256": version.chat_template_sha256,
            "seed": sampling.seed,
            "queued_ms": _milliseconds(completed.queued_seconds),
            "latency_ms": _milliseconds(completed.seconds),
        },
    }


def _choice(index: int, choice: Choice) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": choice.text},
        "logprobs": None,
        "finish_reason": "length" if choice.stopped_by == "max_tokens" else "stop",
        "palate": {
            "seed": choice.seed,
            "token_ids": choice.token_ids,
            "stopped_by": choice.stopped_by,
            "latency_ms": _milliseconds(choice.seconds),
        },
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
