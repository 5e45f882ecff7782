"""Model folders: loading them safely, and knowing how much they can read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from trainer.adapters import CONFIG_FILE, is_adapter, load_adapter, stated_base
from trainer.contract.files import weights_sha256
from trainer.contract.run import ModelRef
from trainer.errors import ModelError

DEFAULT_CONTEXT_TOKENS = 2048
"""Assumed where a model's config does not say how many positions it was trained on."""


def load_model(
    path: Path | str, *, dtype: torch.dtype = torch.float32, base: ModelRef | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer from a folder, in evaluation mode.

    Of an adapter the base is loaded, from where `base` or else the adapter says, and the adapter with it, frozen.
    Nothing is fetched, nothing but safetensors is read, and no code of the folder is run.
    Raises ModelError with words that name the folder and what is missing.
    """
    folder = Path(path)
    tokenizer = load_tokenizer(folder)
    if not is_adapter(folder):
        return load_weights(folder, dtype=dtype), tokenizer
    model = load_weights(Path((base or stated_base(folder)).path), dtype=dtype)
    load_adapter(model, folder)
    return model.eval(), tokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder. Raises ModelError."""
    _check_folder(folder)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"The model in {folder} cannot be loaded: {_first_line(error)}") from error


def load_weights(folder: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """The model in a folder that is no adapter's, in evaluation mode. Raises ModelError."""
    _check_folder(folder)
    if is_adapter(folder):
        raise ModelError(f"{folder} holds an adapter, where a model is needed that stands by itself.")
    if is_reward_model(folder):
        raise ModelError(f"{folder} holds a reward model, which writes no text. Choose a language model.")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=dtype
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"The model in {folder} cannot be loaded: {_first_line(error)}") from error
    model.eval()
    return model


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"There is no model folder at {folder}. Restore it, or choose another model.")
    config = CONFIG_FILE if is_adapter(folder) else "config.json"
    for name in (config, "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise ModelError(f"{folder} holds no {name}; a Hugging Face model folder with its tokenizer is needed.")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} holds no .safetensors file; other weight formats are not read, as they can run code."
        )


def verify_model(reference: ModelRef) -> Path:
    """The folder of a model, after checking that its files, and those of an adapter's base, hash to what was asked for.

    Raises ModelError.
    """
    folder = verify_files(reference)
    base = base_of(reference)
    if base is not None:
        try:
            verify_files(base)
        except ModelError as error:
            raise ModelError(f"{reference.name} is an adapter on {base.name}. {error}") from error
    return folder


def base_of(reference: ModelRef) -> ModelRef | None:
    """The base of an adapter, where it lies now; None for a model that stands by itself. Raises ModelError."""
    folder = Path(reference.path)
    if not is_adapter(folder):
        return None
    stated = stated_base(folder)
    if reference.base is None or reference.base.sha256 != stated.sha256:
        return stated
    return stated.model_copy(update={"path": reference.base.path})


def verify_files(reference: ModelRef) -> Path:
    """The same without an adapter's base: its hash says which one it must be, not that it is there."""
    folder = Path(reference.path)
    _check_folder(folder)
    found = weights_sha256(folder)
    if found != reference.sha256:
        raise ModelError(
            f"The files of {reference.name} in {folder} have changed: their hash is {found[:12]}…, "
            f"{reference.sha256[:12]}… was expected. Restore the folder, or register the model anew."
        )
    return folder


def is_reward_model(folder: Path) -> bool:
    """Whether a folder's head gives a number instead of tokens, as its config says."""
    try:
        named = json.loads((folder / "config.json").read_bytes()).get("architectures") or []
    except (OSError, ValueError, AttributeError):  # whoever loads it says so
        return False
    return any(str(name).endswith("ForSequenceClassification") for name in named)


def context_tokens(model: PreTrainedModel) -> int:
    """How many tokens, prompt and completion together, the model can read."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return DEFAULT_CONTEXT_TOKENS


def stored_dtype(folder: Path) -> torch.dtype:
    """The number format that a folder's weights are stored in, as its config says; float32 where it does not."""
    config = json.loads((folder / "config.json").read_bytes())
    named = config.get("dtype") or config.get("torch_dtype") or "float32"
    found = getattr(torch, str(named), torch.float32)
    return found if isinstance(found, torch.dtype) else torch.float32


def stored_parameters(folder: Path) -> int:
    """How many numbers the folder's weight files hold, from their headers alone. Raises ModelError."""
    count = 0
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as tensors:
                count += sum(math.prod(_shape(tensors, name)) for name in tensors.keys())  # noqa: SIM118
        except Exception as error:  # the Rust library's error type is not a subclass of anything narrower
            raise ModelError(f"{path.name} in {folder} is not a safetensors file.") from error
    return count


def _weight_files(folder: Path) -> list[Path]:
    """Those that are loaded. Others may lie beside them, such as the same weights under their makers' own names."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            return [folder / name for name in set(json.loads(index.read_bytes())["weight_map"].values())]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(f"{index.name} in {folder} names no weight files.") from error
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else list(folder.glob("*.safetensors"))


def _shape(tensors: Any, name: str) -> list[int]:
    shape: list[int] = tensors.get_slice(name).get_shape()
    return shape


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
