"""A rank that does not lead: it holds what the leader holds, and does its part whenever the leader says so."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from trainer.checkpoints import restore_best, whole_state
from trainer.contract.files import read_json
from trainer.contract.run import CHECKPOINTS_FOLDER, RunRequest
from trainer.findings import Findings
from trainer.following import Ask, Begin, Divide, Gather, Lend, Load, Order, Restore, Settle, Take
from trainer.loop import optimizer_for, taken_step, taken_up
from trainer.material import Material, phases_of
from trainer.memory import Limits
from trainer.phases import Phase, phase_at
from trainer.ranks import Ranks
from trainer.reference import Kept, Reference, ask_about, read_table
from trainer.request import read_request
from trainer.sharding import lend
from trainer.snapshot import read_snapshot
from trainer.stages import (
    LIMITS_FILE,
    REFERENCE_FOLDER,
    TRUNK_FOLDER,
    Models,
    divide,
    kept_distributions,
    kept_matrices,
    load_models,
    material_of,
)
from trainer.trunk import kept_trunk
from trainer.tuning import settle, trained_layers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What steps take beside the models."""

    phases: list[Phase]
    reference: Reference
    optimizer: torch.optim.Optimizer


@dataclass
class Follower:
    """One rank that follows, from the run's own files. It raises whatever goes wrong."""

    folder: Path
    ranks: Ranks
    kept: Kept = field(default_factory=Kept)
    _open: ExitStack = field(default_factory=ExitStack)
    """What is to be given up once training has ended."""

    def close(self) -> None:
        """Give up what is kept, however the run ended."""
        self._open.close()

    def heed(self, order: Order) -> None:
        """Carry out what the leader said."""
        match order:
            case Load():
                log.info("Training on %s", self.found.spoken)
                limits = read_json(self._checkpoints / LIMITS_FILE, Limits)
                self.models.policy.limits = self.models.reference.limits = limits
                matrices = kept_matrices(self._checkpoints, self.models.policy, self.request)
                self.models.policy.matrices = self.models.reference.matrices = matrices
            case Divide():
                divide(self.models, self.ranks)
            case Ask():
                self.kept = kept_distributions(self.request, self.models, self.found)
            case Begin():
                taken_up(self._checkpoints, self.models.policy, self.training.optimizer)
                self._keep_trunk()
            case Take():
                self._take(order)
            case Lend("policy"):
                lend(self.models.policy.model)
            case Lend():
                lend(self.models.reference.model)
            case Gather():
                optimizer = self.training.optimizer if order.with_moments else None
                whole_state(self.models.policy.model, optimizer, keep=False)
            case Restore():
                restore_best(self._checkpoints, order.step, self.models.policy.model)
            case Settle():
                self.close()
                settle(self.models.policy.model, self.models.plan)

    @cached_property
    def request(self) -> RunRequest:
        """The run's own."""
        return read_request(self.folder)

    @cached_property
    def models(self) -> Models:
        """Policy and reference, as the leader has them."""
        return load_models(self.request, Findings(), self.ranks)

    @cached_property
    def found(self) -> Material:
        """What is trained on."""
        snapshot = read_snapshot(Path(self.request.snapshot.path), rows_sha256=self.request.snapshot.rows_sha256)
        return material_of(self.request, snapshot, self.models.policy, self.models.tokenizer, Findings())

    @cached_property
    def training(self) -> Training:
        """Once the reference is known."""
        reference, _ = ask_about(
            self.models.reference,
            self.found.sequences,
            table=read_table(self._checkpoints / REFERENCE_FOLDER),
            kept=self.kept,
            on_progress=lambda share: None,
        )
        phases = phases_of(self.request, self.found, self.models.plan)
        return Training(phases, reference, optimizer_for(self.models.policy, phases))

    def _keep_trunk(self) -> None:
        layers = trained_layers(self.models.policy.model, self.models.plan, self.request.hyperparameters)
        folder = self._checkpoints / f"{TRUNK_FOLDER}-{self.ranks.rank}"
        self._open.enter_context(kept_trunk(self.models.policy, layers, folder))

    def _take(self, order: Take) -> None:
        phase, own_step = phase_at(self.training.phases, order.step)
        taken_step(
            self.models.policy,
            self.training.optimizer,
            phase,
            own_step,
            self.training.reference,
            anchor=order.anchor,
            seed=self.request.seed,
            ranks=self.ranks,
        )

    @property
    def _checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS_FOLDER
