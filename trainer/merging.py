"""`python -m trainer merge <version folder> <out>`: an adapter and its base as one ordinary model folder."""

from __future__ import annotations

from pathlib import Path

import torch

from trainer.adapters import is_adapter, load_adapter, merge_adapter, stated_base
from trainer.artifact import write_model
from trainer.contract.run import ModelRef
from trainer.errors import ModelError
from trainer.models import load_weights, stored_dtype, verify_files


def merge(folder: Path, out: Path, *, base_folder: Path | None = None) -> None:
    """Write the model of an adapter's folder to `out`, in the number format of its base.

    The base is read from `base_folder`, or from where the adapter says that it lies. Raises ModelError.
    """
    if not is_adapter(folder):
        raise ModelError(f"{folder} holds no adapter, so there is nothing to merge.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} is there already. Name a folder that is not, or is empty.")
    stated = stated_base(folder)
    base = verify_files(ModelRef(name=stated.name, path=str(base_folder or stated.path), sha256=stated.sha256))
    model = load_weights(base, dtype=torch.float32)
    load_adapter(model, folder, wide=True)
    merge_adapter(model)
    write_model(model, out, start=folder, dtype=stored_dtype(base))
