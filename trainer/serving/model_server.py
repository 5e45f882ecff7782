"""The parts of one model server, put together: what its routes are handed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from fastapi import Depends, Request

from trainer.serving.loading import Loader, check_name
from trainer.serving.rewarding import Rewarder
from trainer.serving.scheduling import Scheduler
from trainer.serving.settings import ServerSettings
from trainer.serving.versions import Registry


@dataclass(frozen=True)
class ModelServer:
    """Settings, loaded versions, and the thread that computes."""

    settings: ServerSettings
    registry: Registry
    scheduler: Scheduler
    loader: Loader
    rewarder: Rewarder


def start_model_server(settings: ServerSettings) -> ModelServer:
    """Start computing, and load the versions and aliases named in the settings. Raises ServingError."""
    torch.set_num_threads(settings.threads)
    registry = Registry(max_bytes=settings.max_model_bytes)
    scheduler = Scheduler(max_choices=settings.max_choices, max_waiting=settings.max_waiting)
    scheduler.start()
    device, roots = _device(settings.device), settings.allowed_roots
    loader = Loader(registry, scheduler, roots=roots, device=device, max_threads=settings.threads)
    rewarder = Rewarder(registry, scheduler, roots=roots, device=device, max_threads=settings.threads)
    for name, path in settings.models:
        loader.load_unchecked(name, path)
    for alias, version in settings.aliases:
        check_name(alias, parameter="alias")
        registry.point(alias, version)
    return ModelServer(settings, registry, scheduler, loader, rewarder)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


async def get_server(request: Request) -> ModelServer:
    """The server that this application serves."""
    server: ModelServer = request.app.state.server
    return server


TheServer = Annotated[ModelServer, Depends(get_server)]
