"""A model folder on disk that an admin wants to use: looked at before anything is registered."""

import json
import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import Invalid
from app.wording import gettext as _
from trainer.contract.files import weights_sha256


@dataclass(frozen=True)
class ModelFolder:
    """A folder that can become a version: where it is (links followed) and the hash of its weights."""

    path: Path
    sha256: str


def checked_folder(given: str, *, roots: Sequence[Path]) -> ModelFolder:
    """The model folder at a path that a person typed. Raises Invalid, saying what to do.

    Hashing reads every weight file: about a second per gigabyte.
    """
    path = Path(given.strip())
    if not path.is_absolute() or "\0" in given:
        raise Invalid(_("Give the folder's full path, beginning with /."))
    path = path.resolve()
    allowed = [root.resolve() for root in roots]
    # Where the folder is outside, say no more: nobody should learn here what lies elsewhere on the machine.
    if not any(path.is_relative_to(root) for root in allowed):
        listed = ", ".join(str(root) for root in allowed)
        raise Invalid(
            _(
                "Models may only be loaded from these folders: %(listed)s. Put the model into one of "
                "them, or have PALATE_MODEL_ROOTS name its folder and start Palate again.",
                listed=listed,
            )
        )
    if not path.is_dir():
        raise Invalid(_("There is no folder at %(path)s.", path=path))
    _refuse_unusable(path)
    return ModelFolder(path=path, sha256=weights_sha256(path))


# --- What there is to choose from

DEEPEST = 4
"""Levels below a root down to which models are looked for."""
MOST_FOLDERS = 5000
"""Folders looked into; a root of more than that is no place for models."""
MOST_FOUND = 100
_NO_MODELS_HERE = {"postgres", "checkpoints", "snapshots", "uploads", "logs", "node_modules", ".venv"}
_LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


@dataclass(frozen=True)
class FoundFolder:
    """A folder that looks like a model's. `fault` says why it cannot be used, in words; empty where it can."""

    path: Path
    bytes: int
    """Of its weights, all of which are read when it is added."""
    fault: str


def found_folders(roots: Sequence[Path], *, taken: Container[str]) -> list[FoundFolder]:
    """The model folders under the roots that are not in use yet, usable ones first."""
    found: dict[Path, FoundFolder] = {}
    for path, names in _folders_under([root.resolve() for root in roots]):
        is_model = "config.json" in names or any(name.endswith(_WEIGHTS) for name in names)
        if is_model and str(path) not in taken and len(found) < MOST_FOUND:
            found[path] = _looked_at(path, names)
    return sorted(found.values(), key=lambda folder: (bool(folder.fault), folder.path))


def _folders_under(roots: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    looked_into = 0
    for root in roots:
        for place, below, names in os.walk(root):
            looked_into += 1
            depth = len(Path(place).relative_to(root).parts)
            hidden = {name for name in below if name.startswith(".")} | _NO_MODELS_HERE
            below[:] = sorted(set(below) - hidden) if depth < DEEPEST and looked_into < MOST_FOLDERS else []
            yield Path(place), names


def _looked_at(path: Path, names: list[str]) -> FoundFolder:
    try:
        size = sum((path / name).stat().st_size for name in names if name.endswith(_WEIGHTS))
        _refuse_unusable(path)
    except Invalid as error:
        return FoundFolder(path, size, error.message)
    except OSError as error:
        return FoundFolder(path, 0, _("It cannot be read: %(error)s.", error=error.strerror))
    return FoundFolder(path, size, "")


def _refuse_unusable(path: Path) -> None:
    names = {entry.name for entry in path.iterdir()}
    if not any(name.endswith(".safetensors") for name in names):
        others = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".gguf")))
        hint = _(" It holds %(file)s: convert it to safetensors first.", file=others[0]) if others else ""
        raise Invalid(
            _("%(path)s holds no .safetensors file, so no weights that Palate loads.%(hint)s", path=path, hint=hint)
        )
    if "adapter_config.json" in names:
        raise Invalid(
            _("%(path)s holds an adapter, which is no model by itself. Merge it into its base model first.", path=path)
        )
    if "config.json" not in names:
        raise Invalid(
            _("%(path)s holds no config.json. Is it the whole model folder, as saved by transformers?", path=path)
        )
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json"}:
        raise Invalid(_("%(path)s holds no tokenizer. Save the tokenizer into the same folder.", path=path))
    try:
        config = json.loads((path / "config.json").read_bytes())
    except (ValueError, OSError) as error:
        raise Invalid(_("The config.json in %(path)s cannot be read: %(error)s.", path=path, error=error)) from error
    named = config.get("architectures") or [] if isinstance(config, dict) else []
    if any(str(each).endswith("ForSequenceClassification") for each in named):
        raise Invalid(
            _("%(path)s holds a model that rates or sorts texts and writes none. Choose a language model.", path=path)
        )
    for name in sorted(names):
        if name.endswith(".safetensors") and not _is_whole(path / name):
            raise Invalid(_("%(file)s is cut short or no safetensors file. Copy it again.", file=path / name))


def _is_whole(weights: Path) -> bool:
    """Whether a safetensors file is as long as its header says: a download that broke off is found at once."""
    size = weights.stat().st_size
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            return False
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return size == 8 + length + max(ends, default=0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return False
