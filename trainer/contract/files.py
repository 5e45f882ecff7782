"""Reading, writing and hashing the files of the folders that app and trainer share."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from trainer.contract.base import Contract

ContractT = TypeVar("ContractT", bound=Contract)


def read_json(path: Path, schema: type[ContractT]) -> ContractT:
    """Parse a contract file; pydantic's error names the field that is off."""
    return schema.model_validate_json(path.read_bytes())


def write_json(path: Path, value: Contract) -> None:
    """Write a contract file so that a reader sees the old one or the new one, whole, after any crash."""
    write_whole(path, value.model_dump_json(indent=1).encode())


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file atomically and durably."""
    with replaced_whole(path) as part:
        part.write_bytes(data)


@contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """A file to write in the place of another, atomically and durably (beside it, flushed to disk, renamed).

    On any error what was written goes.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        flush(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    flush(path.parent)


def flush(path: Path) -> None:
    """See a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


BASE_MODEL_FILE = "base_model.json"
"""In an adapter's folder: the base that it belongs to (`ModelRef`)."""
MODEL_FILES = frozenset(
    {
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "chat_template.jinja",
    }
)
"""Files of a model folder, beside `*.safetensors`, that decide what the model writes."""


def weights_sha256(folder: Path) -> str:
    """One hash for a model folder: over the names and hashes of its weights and of `MODEL_FILES`.

    That of an adapter covers its base by the base's hash, wherever the base lies.
    Raises FileNotFoundError where the folder has no safetensors file.
    """
    names = sorted(p.name for p in folder.iterdir() if p.suffix == ".safetensors" or p.name in MODEL_FILES)
    if not any(name.endswith(".safetensors") for name in names):
        raise FileNotFoundError(f"{folder} holds no .safetensors file")
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}:{file_sha256(folder / name)}\n".encode())
    if (folder / BASE_MODEL_FILE).is_file():
        digest.update(f"base:{_stated_sha256(folder / BASE_MODEL_FILE)}\n".encode())
    return digest.hexdigest()


def _stated_sha256(path: Path) -> str:
    """The hash that a base's file states; empty where it cannot be read, which equals no hash that anyone expects."""
    try:
        return str(json.loads(path.read_bytes())["sha256"])
    except (ValueError, KeyError, TypeError):
        return ""
