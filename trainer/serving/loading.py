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

from trainer.chat import end_token_ids, template_sha256, tokenizer_sha256
from trainer.contract.files import weights_sha256
from trainer.contract.run import ModelRef
from trainer.contract.server import LoadVersion
from trainer.errors import ModelError
from trainer.models import context_tokens, load_model, verify_model
from trainer.serving.decoding import Decoding, Sampling
from trainer.serving.errors import BrokenModelError, InvalidRequestError, ModelRefusedError, NameTakenError
from trainer.serving.folders import ONE_THREAD_PARAMETERS, allowed_folder, compute_dtype, stored_parameters
from trainer.serving.scheduling import Scheduler
from trainer.serving.versions import ModelVersion, Registry

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
            if wanted.warm:
                self._try_out(version)
            self._registry.add(version)
        log.info("Loaded %s (%.1f MB) in %.2f s", version.name, version.bytes / 1e6, time.monotonic() - started)
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
            verify_model(ModelRef(name=wanted.name, path=str(folder), sha256=wanted.sha256))
            parameters = stored_parameters(folder)
            dtype = compute_dtype(folder, parameters, self._device)
            self._registry.make_room(wanted.name, parameters * dtype.itemsize)
            model, tokenizer = load_model(folder, dtype=dtype)
        except ModelError as error:
            raise ModelRefusedError(str(error), parameter="path") from error
        model.to(self._device)
        return ModelVersion(
            name=wanted.name,
            path=str(folder),
            sha256=wanted.sha256,
            bytes=_bytes(model),
            model=model,
            tokenizer=tokenizer,
            end_ids=frozenset(end_token_ids(tokenizer, model.config, model.generation_config)),
            context_tokens=context_tokens(model),
            tokenizer_sha256=tokenizer_sha256(tokenizer),
            chat_template_sha256=template_sha256(tokenizer),
            threads=1 if parameters <= ONE_THREAD_PARAMETERS else self._max_threads,
        )

    def _try_out(self, version: ModelVersion) -> None:
        """Decode a few tokens, so that the first request is not the slow one and a broken model is found now."""
        try:
            self._scheduler.submit(_Trial(version)).result()
        except BrokenModelError as error:
            raise ModelRefusedError(f"{version.name} was not loaded. {error.message}", parameter="path") from error
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ModelRefusedError(
                f"{version.name} was not loaded: it cannot generate text ({type(error).__name__}: {error}).",
                parameter="path",
            ) from error


class _Trial:
    """A task that decodes two tokens in a batch of two."""

    choices = 2

    def __init__(self, version: ModelVersion) -> None:
        self._version: ModelVersion | None = version
        self.threads = version.threads

    def advance(self) -> bool:
        assert self._version is not None
        sampling = Sampling(choices=2, temperature=1.0, top_p=0.9, max_tokens=2, seed=0)
        decoding = Decoding(
            self._version.model, self._version.tokenizer, prompt_ids=[0], end_ids=frozenset(), sampling=sampling
        )
        return decoding.advance(2)

    def result(self) -> None:
        return None

    def close(self) -> None:
        self._version = None


def _bytes(model: PreTrainedModel) -> int:
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]}
    return sum(tensors.values())
