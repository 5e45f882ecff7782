"""Weights in memory that several versions may stand on: a full model's own, or the base that adapters share.

A version with an adapter is a tree of modules of its own whose weights are the base's, so that versions on one base
compute side by side, each request on the version that it began with, and the base is in memory once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from trainer.adapters import CONFIG_FILE, hollow, load_adapter, load_adapter_like, shared_copy
from trainer.artifact import CARRIED_OVER
from trainer.chat import template_sha256, tokenizer_sha256
from trainer.models import load_tokenizer
from trainer.serving.text import SharedTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trainer.serving.reading import Reader


@dataclass(frozen=True)
class Texts:
    """How a folder's model reads and writes text."""

    tokenizer: PreTrainedTokenizerBase
    shared: SharedTokenizer
    tokenizer_sha256: str
    template_sha256: str


@dataclass(eq=False)
class Weights:
    """The weights of one folder. `bytes` are those of the weights and buffers, `parameters` their number."""

    sha256: str
    bytes: int
    parameters: int
    model: PreTrainedModel
    """As it was loaded, without an adapter."""
    reader: type[Reader] | None = None
    """How models with these weights read tokens, once one was tried."""
    _hollow: dict[str, PreTrainedModel] = field(default_factory=dict)
    """For each shape of adapter that was loaded, a model that waits for the matrices of another."""
    _texts: dict[str, Texts] = field(default_factory=dict)

    def with_adapter(self, folder: Path) -> PreTrainedModel:
        """Another model on these weights, with the adapter in a folder; fast for the shapes that it has seen.

        Raises ModelError where the adapter does not fit.
        """
        shape = hashlib.sha256((folder / CONFIG_FILE).read_bytes()).hexdigest()
        if shape in self._hollow:
            return load_adapter_like(self._hollow[shape], folder)
        model = shared_copy(self.model)
        load_adapter(model, folder)
        self._hollow[shape] = hollow(model)
        return model.eval()

    def texts_of(self, folder: Path) -> Texts:
        """The tokenizer of a folder, read once for all folders in which the same files lie. Raises ModelError."""
        digest = hashlib.sha256(b"".join(_text_files(folder))).hexdigest()
        if digest not in self._texts:
            tokenizer = load_tokenizer(folder)
            self._texts[digest] = Texts(
                tokenizer, SharedTokenizer(tokenizer), tokenizer_sha256(tokenizer), template_sha256(tokenizer)
            )
        return self._texts[digest]


def _text_files(folder: Path) -> Iterator[bytes]:
    for name in CARRIED_OVER:
        if (folder / name).is_file():
            yield name.encode() + b"\n" + (folder / name).read_bytes()
