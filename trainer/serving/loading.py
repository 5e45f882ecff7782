"""From a request to load a folder to a version that can serve: checked, within the budget, and tried out."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from trainer.chat import end_token_ids
from trainer.contract.files import weights_sha256
from trainer.contract.run import ModelRef
from trainer.contract.server import LoadVersion
from trainer.errors import ModelError
from trainer.models import base_of, context_tokens, load_weights, stored_parameters, verify_files
from trainer.rope import most_tokens_read_alike
from trainer.serving.errors import InvalidRequestError, ModelRefusedError, NameTakenError, ServingError
from trainer.serving.folders import ONE_THREAD_PARAMETERS, allowed_folder, compute_dtype
from trainer.serving.reading import Reader, fitting_reader
from trainer.serving.scheduling import Scheduler
from trainer.serving.versions import ModelVersion, Registry
from trainer.serving.weights import Weights

log = logging.getLogger(__name__)

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
"""What versions and aliases may be called; `starter-v3` and `starter/current` are what Palate uses."""


def check_name(name: str, *, parameter: str) -> None:
    """Raise InvalidRequestError for a name that could not stand in a URL."""
    if not NAME_PATTERN.fullmatch(name) or ".." in name:
        raise InvalidRequestError(
            f"{name!r} cannot be a name: letters, digits and . _ : / @ + - are allowed, at most 200 of them.",
            parameter=parameter,
        )


class Loader:
    """Loads versions into the registry, one at a time."""

    def __init__(
        self,
        registry: Registry,
        scheduler: Scheduler,
        *,
        roots: Sequence[Path],
        device: torch.device,
        max_threads: int,
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._roots = roots
        self._device = device
        self._max_threads = max_threads
        self._one_at_a_time = threading.Lock()

    def load(self, wanted: LoadVersion) -> ModelVersion:
        """The wanted version, loaded now or before; takes as long as reading the folder's files twice.

        Raises a ServingError that says why it cannot be: the name, the path, the files, their hash, the memory.
        """
        check_name(wanted.name, parameter="name")
        folder = allowed_folder(wanted.path, self._roots)
        with self._one_at_a_time:
            if known := self._already_loaded(wanted, folder):
                return known
            self._registry.check_name_free(wanted.name)
            started = time.monotonic()
            version = self._read(wanted, folder)
            self._registry.add(version)
        log.info("Loaded %s (%.1f MB) in %.2f s", version.name, version.needed_bytes / 1e6, time.monotonic() - started)
        return version

    def load_unchecked(self, name: str, path: str) -> ModelVersion:
        """Load a folder named on the command line, whatever its files hash to."""
        try:
            sha256 = weights_sha256(allowed_folder(path, self._roots))
        except FileNotFoundError as error:
            raise ModelRefusedError(f"{error}; other weight formats are not read, as they can run code.") from error
        return self.load(LoadVersion(name=name, path=path, sha256=sha256))

    def _already_loaded(self, wanted: LoadVersion, folder: Path) -> ModelVersion | None:
        known = self._registry.find(wanted.name)
        if known and (known.sha256, known.path) != (wanted.sha256, str(folder)):
            raise NameTakenError(
                f"'{wanted.name}' is loaded already, from another folder or other files. A version never changes: "
                "load this one under another name, or unload that one first.",
                parameter="name",
            )
        return known

    def _read(self, wanted: LoadVersion, folder: Path) -> ModelVersion:
        try:
            named = ModelRef(name=wanted.name, path=str(folder), sha256=wanted.sha256, base=wanted.base)
            verify_files(named)
            base = base_of(named)
            if base is None:
                weights = self._weights_of(named, folder, name=wanted.name)
                model = weights.model
            else:
                weights = self._base_of(wanted.name, base, own_parameters=stored_parameters(folder))
                model = weights.with_adapter(folder)
            texts = weights.texts_of(folder)
        except ModelError as error:
            raise ModelRefusedError(str(error), parameter="path") from error
        threads = 1 if weights.parameters <= ONE_THREAD_PARAMETERS else self._max_threads
        weights.reader = self._reader_of(wanted.name, model, known=weights.reader, threads=threads)
        return ModelVersion(
            name=wanted.name,
            path=str(folder),
            sha256=wanted.sha256,
            bytes=_bytes(model) - _bytes(weights.model),
            model=model,
            tokenizer=texts.shared,
            reader=weights.reader,
            end_ids=frozenset(end_token_ids(texts.tokenizer, model.config, model.generation_config)),
            context_tokens=served_tokens(model),
            tokenizer_sha256=texts.tokenizer_sha256,
            chat_template_sha256=texts.template_sha256,
            weights=weights,
            threads=threads,
        )

    def _base_of(self, name: str, base: ModelRef, *, own_parameters: int) -> Weights:
        """What an adapter stands on: in memory already, or checked and loaded now."""
        try:
            folder = allowed_folder(base.path, self._roots)
            if not self._registry.find_weights(base.sha256):
                verify_files(base.model_copy(update={"path": str(folder)}))
            return self._weights_of(base, folder, name=name, more_parameters=own_parameters)
        except (ModelError, ModelRefusedError) as error:
            raise ModelError(f"{name} is an adapter on {base.name}. {error}") from error

    def _weights_of(self, named: ModelRef, folder: Path, *, name: str, more_parameters: int = 0) -> Weights:
        """The weights of a checked folder that is no adapter's, and room for an adapter of `more_parameters`."""
        if known := self._registry.find_weights(named.sha256):
            self._registry.make_room(name, more_parameters * known.model.dtype.itemsize, on=known)
            return known
        parameters = stored_parameters(folder)
        dtype = compute_dtype(folder, parameters, self._device)
        self._registry.make_room(name, (parameters + more_parameters) * dtype.itemsize)
        model = load_weights(folder, dtype=dtype).to(self._device)
        return Weights(named.sha256, _bytes(model), parameters, model)

    def _reader_of(
        self, name: str, model: PreTrainedModel, *, known: type[Reader] | None, threads: int
    ) -> type[Reader]:
        """How the model reads, found by trying: so a broken one is found before anyone is sent to it."""
        tried = self._scheduler.call(
            lambda: fitting_reader(model, context_tokens=context_tokens(model), known=known), threads=threads
        )
        try:
            return tried.result()
        except ServingError as error:
            raise ModelRefusedError(f"{name} was not loaded. {error.message}", parameter="path") from error
        except Exception as error:  # whatever a model's own code raises
            raise ModelRefusedError(
                f"{name} was not loaded: it cannot generate text ({type(error).__name__}: {error}).", parameter="path"
            ) from error


def _bytes(model: PreTrainedModel) -> int:
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]}
    return sum(tensors.values())


def served_tokens(model: PreTrainedModel) -> int:
    """How many tokens, prompt and completion together, a version is asked to read.

    Where a model reads all of a longer text by other frequencies (`trainer.rope`), what it remembers of the shorter one
    that it was would be wrong, so it is asked for no more than that.
    """
    return min(context_tokens(model), most_tokens_read_alike(model))
