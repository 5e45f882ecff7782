"""Rewards of texts, for whoever chooses what people are to compare: one reward model at a time, within the memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from trainer.contract.run import ModelRef
from trainer.contract.server import LoadVersion, RewardTexts
from trainer.errors import ModelError
from trainer.models import is_reward_model, stored_parameters, verify_model
from trainer.reward.model import load_reward_model
from trainer.reward.scoring import fitting_reward_scorer
from trainer.reward.texts import RewardModel
from trainer.serving.errors import ModelRefusedError
from trainer.serving.folders import ONE_THREAD_PARAMETERS, allowed_folder
from trainer.serving.scheduling import Scheduler
from trainer.serving.versions import Registry

log = logging.getLogger(__name__)


class Rewarder:
    """Keeps the reward model that was asked last; another one takes its place. It writes nothing, so it has no name
    among the versions that requests can ask."""

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
        self._held: tuple[str, RewardModel, int] | None = None
        """Hash, model, and the threads to compute it with."""

    def rewards(self, wanted: RewardTexts) -> list[float | None]:
        """The reward of each text, null for one that the model cannot read whole; loads the model where it is not held.

        Raises a ServingError that says why it cannot be: the path, the files, their hash, the memory.
        """
        with self._one_at_a_time:
            model, threads = self._model(wanted.reward_model)
            written = [(wanted.prompt, text) for text in wanted.texts]
            found = self._scheduler.call(lambda: model.rewards(written), threads=threads)
            try:
                return found.result()
            except ModelError as error:
                raise ModelRefusedError(str(error), parameter="reward_model") from error

    def _model(self, wanted: LoadVersion) -> tuple[RewardModel, int]:
        folder = allowed_folder(wanted.path, self._roots)
        if self._held is None or self._held[0] != wanted.sha256:
            self._let_go()
            try:
                self._held = (wanted.sha256, *self._read(wanted, folder))
            except BaseException:
                self._let_go()
                raise
            log.info("Loaded the reward model %s", wanted.name)
        return self._held[1], self._held[2]

    def _let_go(self) -> None:
        self._held = None
        self._registry.set_aside(0)

    def _read(self, wanted: LoadVersion, folder: Path) -> tuple[RewardModel, int]:
        try:
            verify_model(ModelRef(name=wanted.name, path=str(folder), sha256=wanted.sha256))
            if not is_reward_model(folder):
                raise ModelError(f"{folder} holds no reward model: its head would be a fresh one, which knows nothing.")
            parameters = stored_parameters(folder)
            needed = parameters * torch.float32.itemsize
            self._registry.make_room(wanted.name, needed)
            self._registry.set_aside(needed)
            model, tokenizer = load_reward_model(folder)
            model.to(self._device)
            threads = 1 if parameters <= ONE_THREAD_PARAMETERS else self._max_threads
            fitting = self._scheduler.call(lambda: fitting_reward_scorer(model), threads=threads)
            return RewardModel(fitting.result(), tokenizer), threads
        except ModelError as error:
            raise ModelRefusedError(str(error), parameter="reward_model") from error
