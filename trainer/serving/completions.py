"""The public face: `/v1/models` and `/v1/chat/completions`, as OpenAI clients expect them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from trainer.serving.access import require_api_key
from trainer.serving.decoding import Decoding, Sampling
from trainer.serving.errors import InvalidRequestError, ModelNotFoundError
from trainer.serving.model_server import ModelServer, TheServer
from trainer.serving.prompts import completion_tokens, prompt_token_ids
from trainer.serving.replies import Reply
from trainer.serving.sampling import fresh_seed
from trainer.serving.schemas import ChatCompletionRequest
from trainer.serving.streaming import CompletionStream
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


@router.post("/chat/completions", response_model=None)
async def create_chat_completion(
    wanted: ChatCompletionRequest, request: Request, server: TheServer
) -> dict[str, Any] | CompletionStream:
    """Draw `n` completions of the messages; a client that leaves takes its request with it."""
    wanted.refuse_what_we_lack()
    changed = asyncio.Event()
    decoding = await _decoding(wanted, server, on_change=_setter(changed))
    server.scheduler.submit(decoding)
    reply, leave = Reply(decoding), partial(server.scheduler.cancel, decoding)
    if wanted.stream:
        return CompletionStream(reply, changed, with_usage=wanted.wants_usage(), on_end=leave)
    try:
        await _unless_the_client_leaves(changed.wait(), request)
    finally:
        leave()
    if decoding.error is not None:
        raise decoding.error
    return reply.whole()


async def _decoding(wanted: ChatCompletionRequest, server: ModelServer, *, on_change: Callable[[], None]) -> Decoding:
    """The request as it will be computed, by the version that its model's name stands for now."""
    sampling, limit = _sampling(wanted, server), wanted.completion_limit()
    messages = [message.as_message() for message in wanted.messages]
    lease = server.registry.lease(wanted.model)
    try:
        version, limits = lease.version, server.settings.limits
        prompt_ids = await run_in_threadpool(prompt_token_ids, version, messages, limits)
        max_tokens = completion_tokens(version, len(prompt_ids), limit, limits)
        sampling = replace(sampling, max_tokens=max_tokens)
        return Decoding(lease, prompt_ids, sampling, streamed=bool(wanted.stream), on_change=on_change)
    except BaseException:
        lease.give_back()
        raise


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


def _setter(changed: asyncio.Event) -> Callable[[], None]:
    """Sets the event from another thread, as long as there is a loop to see it."""
    loop = asyncio.get_running_loop()

    def set_soon() -> None:
        with suppress(RuntimeError):  # the loop has been closed: the server is stopping
            loop.call_soon_threadsafe(changed.set)

    return set_soon


async def _unless_the_client_leaves(waiting: Coroutine[Any, Any, Any], request: Request) -> None:
    tasks = [asyncio.create_task(waiting), asyncio.create_task(_client_left(request))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientLeft
    finally:
        for task in tasks:
            task.cancel()


class ClientLeft(Exception):
    """The client closed its connection before its answer was ready."""

    status = _CLIENT_HAS_GONE


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
