"""The stages of a run that trains a reward model, one after the other."""

from __future__ import annotations

from pathlib import Path

import torch

from trainer.artifact import round_weights
from trainer.chat import template_sha256, tokenizer_sha256
from trainer.contract.files import weights_sha256
from trainer.contract.run import (
    CHECKPOINTS_FOLDER,
    MODEL_FOLDER,
    RunRequest,
    Stage,
    Tuning,
)
from trainer.contract.steps import Step, passing
from trainer.devices import autocast_dtype, fitting_device
from trainer.errors import ModelError, blaming_training
from trainer.findings import Findings
from trainer.loop import train
from trainer.material import phases_of
from trainer.models import base_of, stored_dtype, verify_model
from trainer.ranks import Ranks
from trainer.record import Recorder, say
from trainer.reward.model import load_reward_model, write_reward_model
from trainer.reward.results import held_out_rewards, kept_rewards
from trainer.reward.scoring import NoReference, fitting_reward_scorer
from trainer.reward.training import as_reward_request
from trainer.snapshot import read_snapshot
from trainer.stages import (
    BEFORE_FILE,
    fitting_threads,
    kept_limits,
    kept_matrices,
    material_of,
    refuse_full_disk,
)
from trainer.tuning import (
    Plan,
)


def carry_out_reward_model(
    request: RunRequest, folder: Path, recorder: Recorder, findings: Findings, ranks: Ranks
) -> None:
    """The same for a reward model, which has no reference and writes no text. It is trained by the leader alone."""
    torch.manual_seed(request.seed)
    if ranks.sharded:
        raise ModelError("A reward model is trained by one process, which holds all of it. Start the run unsharded.")
    request, checkpoints = as_reward_request(request), folder / CHECKPOINTS_FOLDER
    with recorder.stage(Stage.LOADING, f"Loading {request.start.name} and the snapshot."):
        snapshot = read_snapshot(Path(request.snapshot.path), rows_sha256=request.snapshot.rows_sha256)
        start_folder = verify_model(request.start)
        if base_of(request.start) is not None:
            raise ModelError(f"{request.start.name} is an adapter. A reward model starts from whole weights: the base.")
        findings.hashes |= {"rows_sha256": snapshot.manifest.rows_sha256, "start": request.start.sha256}
        model, tokenizer = load_reward_model(start_folder)
        device = fitting_device()
        model.to(device)
        torch.set_num_threads(request.budget.threads or fitting_threads(model))
        findings.hashes |= {"tokenizer": tokenizer_sha256(tokenizer), "chat_template": template_sha256(tokenizer)}
        plan = Plan(Tuning.FULL, request.start, start_folder, merged=False)
        refuse_full_disk(folder, model, plan, request.budget)
        scorer = fitting_reward_scorer(model, autocast=autocast_dtype(device))
        found = material_of(request, snapshot, scorer, tokenizer, findings)
        scorer.limits = kept_limits(checkpoints, scorer, found, drifts=False)
        scorer.matrices = kept_matrices(checkpoints, scorer, request)
    passing(Step.TRAINING_LOADED)
    with recorder.stage(Stage.BEFORE, f"Measuring a fresh head on {len(found.held_out)} held-out pairs."):
        findings.rewards_before = kept_rewards(checkpoints / BEFORE_FILE, scorer, found.held_out)
        recorder.row(1.0, held_out_accuracy=findings.rewards_before.accuracy)
    passing(Step.TRAINING_MEASURED_BEFORE)
    phases = phases_of(request, found, plan)
    findings.learning_rate = phases[-1].peak_rate
    with recorder.stage(Stage.TRAINING, f"Training a reward model on {found.spoken}."), blaming_training():
        state = train(
            scorer,
            phases=phases,
            held_out=found.held_out,
            reference=NoReference(scorer),
            budget=request.budget,
            seed=request.seed,
            recorder=recorder,
            checkpoints=checkpoints,
        )
        findings.steps, findings.train_tokens, findings.stopped = state.step, state.tokens, state.stopped
        findings.best_step = state.progress.best_step if request.budget.stop_after_evaluations else 0
        if state.stopped:
            say(state.stopped)
    dtype = stored_dtype(start_folder)
    round_weights(model, dtype)
    with recorder.stage(Stage.AFTER, f"Measuring {request.version_name}."), blaming_training():
        findings.rewards_after = held_out_rewards(scorer, found.held_out)
    passing(Step.TRAINING_MEASURED_AFTER)
    with recorder.stage(Stage.WRITING, f"Writing {request.version_name}."):
        write_reward_model(model, tokenizer, folder / MODEL_FOLDER, start=start_folder, dtype=dtype)
        findings.hashes["model"] = weights_sha256(folder / MODEL_FOLDER)
        recorder.row(1.0)
    passing(Step.TRAINING_MODEL_WRITTEN)
