"""The trained model as a folder: weights in the number format of its start or an adapter, all else as it was there."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import PreTrainedModel

from trainer.adapters import write_adapter_files
from trainer.checkpoints import written_whole
from trainer.contract.run import ModelRef

CARRIED_OVER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
"""Files that training does not change; copied byte for byte, so that tokens mean what they meant."""


@torch.no_grad()
def round_weights(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Round the weights in place to what a folder in `dtype` will hold, so that what is measured is what is served."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))


def write_model(model: PreTrainedModel, folder: Path, *, start: Path, dtype: torch.dtype) -> None:
    """Write a model folder in `dtype`, whole or not at all. `start` gives tokenizer, chat template and settings."""
    model.to(dtype)
    with written_whole(folder) as part:
        model.save_pretrained(part)
        _carry_over(start, part)


def write_adapter(model: PreTrainedModel, folder: Path, *, start: Path, base: ModelRef) -> None:
    """Write the folder of a model's adapter, whole or not at all. `start` gives tokenizer and chat template."""
    with written_whole(folder) as part:
        write_adapter_files(model, part, base=base)
        _carry_over(start, part)


def _carry_over(start: Path, folder: Path) -> None:
    for name in CARRIED_OVER:
        if (start / name).is_file():
            shutil.copyfile(start / name, folder / name)
