"""Adapters that change something, in models and on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.factories.snapshots import model_ref
from trainer.adapters import adapter_parameters, new_adapter
from trainer.artifact import write_adapter
from trainer.contract.run import ModelRef
from trainer.models import load_model


def moved(model: Any, *, seed: int = 3) -> None:
    """Give an adapter matrices that change something."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter_parameters(model):
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def write_moved(folder: Path, base: ModelRef, *, seed: int = 3) -> ModelRef:
    """An adapter on `base` that changes something, on disk."""
    model, _ = load_model(base.path)
    new_adapter(model, rank=4, alpha=8, seed=1)
    moved(model, seed=seed)
    write_adapter(model, folder, start=Path(base.path), base=base)
    return model_ref(folder)
