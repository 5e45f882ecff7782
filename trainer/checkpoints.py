"""Resumable states of a training: `checkpoints/step-N/`, whole or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from trainer.anchors import RunningMean
from trainer.contract.files import flush, replaced_whole
from trainer.contract.steps import Step, passing
from trainer.errors import ModelError
from trainer.following import Gather, tell
from trainer.ranks import ALONE, Ranks
from trainer.sharding import is_sharded, load_moments, load_weights, reshard, whole
from trainer.stopping import Progress

STATE_FILE = "state.pt"
_BEST = "best-{step}.pt"
KEPT = 2
"""Checkpoints that stay; older ones are deleted once a newer one is whole."""


@dataclass(frozen=True)
class TrainingState:
    """How far a training has come: steps done, tokens seen, rewards seen, how held-out rankings come along, and whether
    it is over; `stopped` says why before its last step."""

    step: int = 0
    tokens: int = 0
    finished: bool = False
    rewards: RunningMean = field(default_factory=RunningMean)
    progress: Progress = field(default_factory=Progress)
    stopped: str = ""
    limits: dict[str, int] = field(default_factory=dict)
    """How much goes through the model at once (`Limits`), which is less once memory ran out."""


def save_checkpoint(
    folder: Path, state: TrainingState, model: PreTrainedModel, optimizer: torch.optim.Optimizer, ranks: Ranks = ALONE
) -> None:
    """Write `folder/step-N`, then delete all but the newest ones. It is the same whether or not a model is sharded."""
    if is_sharded(model):
        tell(ranks, Gather(with_moments=True))
    weights, moments = whole_state(model, optimizer)
    content = {"state": asdict(state), "model": weights, "optimizer": moments, "rng": torch.get_rng_state()}
    with written_whole(folder / f"step-{state.step}") as part:
        with (part / STATE_FILE).open("wb") as file:  # of a path torch would not say that the disk is full
            torch.save(content, file)
        passing(Step.TRAINING_CHECKPOINT_WRITING)
    passing(Step.TRAINING_CHECKPOINT_WRITTEN)
    for old in _checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)
    for other in folder.glob(_BEST.format(step="*")):
        if other != folder / _BEST.format(step=state.progress.best_step):
            other.unlink()


def restore_checkpoint(folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Put model, optimizer and random numbers back to the newest checkpoint; a fresh state where there is none."""
    _discard_unfinished(folder)
    found = _checkpoints(folder)
    if not found:
        return TrainingState()
    content = torch.load(found[-1] / STATE_FILE, weights_only=True)
    load_weights(model, content["model"])
    if missing := trained_weights(model).keys() - content["model"].keys():
        raise ModelError(f"{found[-1]} belongs to another training: it lacks {min(missing)}. Start a new run.")
    load_moments(optimizer, content["optimizer"])
    torch.set_rng_state(content["rng"])
    state = content["state"]
    state["rewards"], state["progress"] = RunningMean(**state["rewards"]), Progress(**state["progress"])
    return TrainingState(**state)


def save_best(folder: Path, step: int, model: PreTrainedModel, ranks: Ranks = ALONE) -> None:
    """Keep the weights of a step, which is the best so far, until a checkpoint knows of a better one.

    Those of an earlier step that no checkpoint knows of go first, so that there are never more than two.
    """
    known = max((_step_of(path) for path in _checkpoints(folder)), default=0)
    for path in folder.glob(_BEST.format(step="*")):
        if _step_of(path) > known:
            path.unlink()
    if is_sharded(model):
        tell(ranks, Gather(with_moments=False))
    with replaced_whole(folder / _BEST.format(step=step)) as part, part.open("wb") as file:
        torch.save(whole_state(model)[0], file)


def restore_best(folder: Path, step: int, model: PreTrainedModel) -> None:
    """Put back the weights of the best step."""
    load_weights(model, torch.load(folder / _BEST.format(step=step), weights_only=True))


def whole_state(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer | None = None, *, keep: bool = True
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What training changes of a model, and an optimizer's state, for writing. Of a sharded model all ranks must ask,
    and those that do not `keep` it get no tensors."""
    reshard(model)
    moments = optimizer.state_dict() if optimizer else {}
    if not is_sharded(model):
        return trained_weights(model), moments
    return whole(trained_weights(model), keep=keep), whole(moments, keep=keep)


def trained_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """What training changes of a model, by name; the rest is in the folders that the run started from."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def discard_checkpoints(folder: Path) -> None:
    """Delete all checkpoints of a training that needs them no more."""
    for path in _checkpoints(folder):
        shutil.rmtree(path)
    for path in folder.glob(_BEST.format(step="*")):
        path.unlink()
    _discard_unfinished(folder)


def _discard_unfinished(folder: Path) -> None:
    """Delete what a kill left half written."""
    for path in folder.glob(".step-*.part"):
        shutil.rmtree(path)
    for path in folder.glob(f".{_BEST.format(step='*')}.part"):
        path.unlink()


def _checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(folder.glob("step-*"), key=_step_of)


def _step_of(path: Path) -> int:
    """The step in the name of a checkpoint, or of the weights of a best step."""
    return int(path.stem.rpartition("-")[2])


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes its name only when all is on disk, replacing one left by an earlier start.

    On any error what was written goes.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for path in [*part.iterdir(), part]:
            flush(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    flush(folder.parent)
