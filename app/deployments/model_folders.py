"""A model folder on disk that an admin wants to use: looked at before anything is registered."""

import json
from collections.abc import Sequence
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
        json.loads((path / "config.json").read_bytes())
    except (ValueError, OSError) as error:
        raise Invalid(_("The config.json in %(path)s cannot be read: %(error)s.", path=path, error=error)) from error
