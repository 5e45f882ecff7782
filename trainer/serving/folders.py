"""Which folders may be loaded, and what they will take in memory: looked at before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from trainer.models import stored_dtype
from trainer.serving.errors import ModelRefusedError, PathNotAllowedError

SMALL_PARAMETERS = 200_000_000
"""Up to here a CPU decodes faster in float32 than in bfloat16, and the memory does not matter."""
ONE_THREAD_PARAMETERS = 5_000_000
"""Up to here a second thread gains nothing, and costs half of the speed where other processes want the cores."""
_INDEX_FILE = "model.safetensors.index.json"


def allowed_folder(path: str, roots: Sequence[Path]) -> Path:
    """The folder at `path` with links followed, if it and all that it holds lie inside one of `roots`.

    `roots` are resolved already. Raises PathNotAllowedError, also where nothing is at the path, so that
    nobody learns from the answer what exists outside the roots.
    """
    folder = Path(path).resolve()
    if not _inside(folder, roots):
        raise PathNotAllowedError(
            f"{path} lies outside the folders that models may be loaded from. "
            "Move it there, or start the model server with another --allowed-root.",
            parameter="path",
        )
    if not folder.is_dir():
        raise ModelRefusedError(f"There is no folder at {path}.", parameter="path")
    for file in folder.iterdir():
        if not _inside(file.resolve(), roots):
            raise PathNotAllowedError(
                f"{file.name} in {path} is a link to a file outside the allowed folders.", parameter="path"
            )
    _check_index(folder)
    return folder


def _inside(path: Path, roots: Sequence[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _check_index(folder: Path) -> None:
    """Refuse an index of weight files that points out of its folder."""
    index = folder / _INDEX_FILE
    if not index.is_file():
        return
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelRefusedError(f"{_INDEX_FILE} in {folder} cannot be read.", parameter="path") from error
    for name in names:
        if Path(str(name)).name != name:
            raise PathNotAllowedError(f"{_INDEX_FILE} in {folder} names a file outside it: {name}", parameter="path")


def compute_dtype(folder: Path, parameters: int, device: torch.device) -> torch.dtype:
    """The number format to compute in: float32 for a small model on a CPU, else as the weights are stored."""
    if device.type == "cpu" and parameters <= SMALL_PARAMETERS:
        return torch.float32
    return stored_dtype(folder)
