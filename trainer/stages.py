"""The stages of a run that trains a policy, one after the other: read from top to bottom.

Every stage leaves what it found under `checkpoints/`, so a run taken up again after a kill goes on where it was.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer.chat import template_sha256, tokenizer_sha256
from trainer.checkpoints import whole_state
from trainer.contract.files import read_json, weights_sha256, write_json, write_whole
from trainer.contract.run import (
    CHECKPOINTS_FOLDER,
    MODEL_FOLDER,
    Budget,
    Matrices,
    RunRequest,
    Stage,
)
from trainer.contract.steps import Step, passing
from trainer.devices import autocast_dtype, fitting_device
from trainer.errors import ModelError, TrainerError, blaming_training
from trainer.evaluate import Examination, Measured, examination, measure
from trainer.findings import Findings
from trainer.following import Agree, Ask, Divide, Gather, Lend, Load, Settle, tell
from trainer.logps import Scorer, fitting_scorer
from trainer.loop import train, watched_pairs
from trainer.material import Material, Tokenizing, material_for, phases_of, require_something
from trainer.matrices import fitting_matrices
from trainer.memory import Limits, bytes_to_train_in, fitting_limits
from trainer.models import context_tokens
from trainer.ranks import ALONE, Ranks
from trainer.record import Recorder, say
from trainer.reference import Kept, Reference, add_to_table, ask_about, keep_distributions, read_table
from trainer.reward.texts import rewarded, verified_reward_model
from trainer.sharding import in_step, is_sharded, keep_together, shard
from trainer.snapshot import Snapshot, read_snapshot
from trainer.trunk import kept_trunk
from trainer.tuning import (
    Plan,
    needed_disk_bytes,
    prepare,
    settle,
    trained_layers,
    unsharded_policy,
    write_version,
)
from trainer.watching import Watcher

BEFORE_FILE = "before.json"
LIMITS_FILE = "limits.json"
MATRICES_FILE = "matrices"
REFERENCE_FOLDER = "reference"
TRUNK_FOLDER = "trunk"
SMALL_MODEL_PARAMETERS = 4_000_000
LEAST_FREE_BYTES = 2**20
"""What must stay free on the disk, beside all that a run writes."""
ROOM_FILE = "room"
"""Under `checkpoints/`, held so that a report can be written on a disk that has run full."""


@dataclass(frozen=True)
class Models:
    """The policy in training, the frozen reference, and what is trained of the policy."""

    policy: Scorer
    tokenizer: PreTrainedTokenizerBase
    reference: Scorer
    plan: Plan
    starts_at_reference: bool


def carry_out(request: RunRequest, folder: Path, recorder: Recorder, findings: Findings, ranks: Ranks) -> None:
    """All stages; what they find is in `findings` as soon as it is known. Raises TrainerError, RunCancelled,
    RunInterrupted and RanksLostError.
    """
    torch.manual_seed(request.seed)
    checkpoints = folder / CHECKPOINTS_FOLDER
    with recorder.stage(Stage.LOADING, f"Loading {request.start.name} and the snapshot."):
        snapshot = read_snapshot(Path(request.snapshot.path), rows_sha256=request.snapshot.rows_sha256)
        findings.hashes["rows_sha256"] = snapshot.manifest.rows_sha256
        findings.hashes |= verified_reward_model(request)
        models = load_models(request, findings, ranks)
        refuse_full_disk(folder, models.policy.model, models.plan, request.budget)
        found = material_of(request, snapshot, models.policy, models.tokenizer, findings)
        exam = examination(
            request, snapshot, found.held_out, models.tokenizer, max_tokens=context_tokens(models.policy.model)
        )
        findings.exam = exam
        if exam.left_out:
            recorder.row(0.5, message=exam.left_out)
        drifts = request.hyperparameters.drift_weight > 0
        limits = kept_limits(checkpoints, models.policy, found, drifts=drifts, ranks=ranks)
        models.policy.limits = models.reference.limits = limits
        models.policy.matrices = models.reference.matrices = kept_matrices(checkpoints, models.policy, request)
        _share_out(models, ranks)
        recorder.pace.most_seconds = request.budget.max_seconds or math.inf
        watcher = _watcher(folder, models, exam, recorder)
    passing(Step.TRAINING_LOADED)
    with recorder.stage(Stage.BEFORE, f"Measuring {request.start.name} on {len(found.held_out)} held-out pairs."):
        findings.before = _measured_before(checkpoints, models, exam, recorder, watcher)
    passing(Step.TRAINING_MEASURED_BEFORE)
    with recorder.stage(
        Stage.REFERENCE,
        f"Reading every completion with {request.reference.name}, which the new version is to stay near.",
    ):
        reference = _reference(request, checkpoints, models, found, recorder=recorder, ranks=ranks)
    passing(Step.TRAINING_REFERENCE_KNOWN)
    phases = phases_of(request, found, models.plan)
    findings.learning_rate = phases[-1].peak_rate
    with recorder.stage(Stage.TRAINING, f"Training on {found.spoken}."):
        layers = trained_layers(models.policy.model, models.plan, request.hyperparameters)
        with kept_trunk(models.policy, layers, checkpoints / TRUNK_FOLDER), blaming_training():
            state = train(
                models.policy,
                phases=phases,
                held_out=found.held_out,
                reference=reference,
                budget=request.budget,
                seed=request.seed,
                recorder=recorder,
                checkpoints=checkpoints,
                ranks=ranks,
                watch=watcher.look,
            )
        findings.steps, findings.train_tokens, findings.stopped = state.step, state.tokens, state.stopped
        findings.best_step = state.progress.best_step if request.budget.stop_after_evaluations else 0
        if state.stopped:
            say(state.stopped)
    tell(ranks, Settle())
    settle(models.policy.model, models.plan)
    with recorder.stage(Stage.AFTER, f"Measuring {request.version_name}."), blaming_training():
        measured = measure(models.policy, models.tokenizer, models.reference, exam, on_progress=recorder.tick)
        findings.after = rewarded(measured, exam, models.policy.limits)
    passing(Step.TRAINING_MEASURED_AFTER)
    with recorder.stage(Stage.WRITING, f"Writing {request.version_name}."):
        write_version(_whole_policy(request, models, ranks), models.plan, folder / MODEL_FOLDER)
        findings.hashes["model"] = weights_sha256(folder / MODEL_FOLDER)
        recorder.row(1.0)
    passing(Step.TRAINING_MODEL_WRITTEN)


def load_models(request: RunRequest, findings: Findings, ranks: Ranks) -> Models:
    """What every rank needs of models; their hashes are in `findings`. Raises ModelError."""
    prepared = prepare(request, sharded=ranks.sharded)
    tokenizer, plan = prepared.tokenizer, prepared.plan
    torch.set_num_threads(request.budget.threads or fitting_threads(prepared.policy))
    if tokenizer_sha256(tokenizer) != tokenizer_sha256(prepared.reference_tokenizer):
        raise ModelError(
            f"{request.start.name} and its reference {request.reference.name} read text with different tokenizers. "
            "Choose a reference of the same line."
        )
    findings.hashes |= {
        "start": request.start.sha256,
        "reference": request.reference.sha256,
        "tokenizer": tokenizer_sha256(tokenizer),
        "chat_template": template_sha256(tokenizer),
    } | ({"base": plan.base.sha256} if plan.writes_adapter else {})
    autocast = autocast_dtype(fitting_device())
    return Models(
        policy=fitting_scorer(prepared.policy, autocast=autocast),
        tokenizer=tokenizer,
        reference=fitting_scorer(prepared.reference, autocast=autocast),
        plan=plan,
        starts_at_reference=request.start.sha256 == request.reference.sha256,
    )


def _share_out(models: Models, ranks: Ranks) -> None:
    """Have the other ranks load what this one has, and where it is to be sharded, keep a share of it as they do."""
    tell(ranks, Load())
    if ranks.sharded:
        tell(ranks, Agree())
        tell(ranks, Divide())
        divide(models, ranks)


def divide(models: Models, ranks: Ranks) -> None:
    """Keep a share alone of policy and reference, as all ranks do at the same time."""
    shard(models.policy.model, ranks, announced_as=Lend("policy"))
    shard(models.reference.model, ranks, announced_as=Lend("reference"))
    keep_together(models.reference.model)


def _whole_policy(request: RunRequest, models: Models, ranks: Ranks) -> PreTrainedModel:
    policy = models.policy.model
    if not is_sharded(policy):
        return policy
    tell(ranks, Gather(with_moments=False))
    return unsharded_policy(request, models.plan, whole_state(policy)[0])


def fitting_threads(model: PreTrainedModel) -> int:
    """Torch's own choice; one for a model so small that threads would mostly wait for each other.

    A rule rather than a measurement, as the numbers of a run depend on it to the last bit.
    """
    return 1 if model.num_parameters() < SMALL_MODEL_PARAMETERS else torch.get_num_threads()


def refuse_full_disk(folder: Path, model: PreTrainedModel, plan: Plan, budget: Budget) -> None:
    """Raise TrainerError where checkpoints and the trained model will not fit on the disk.

    What an earlier start of the run has written is part of what it needs: a kill must not have it refused.
    """
    needed = LEAST_FREE_BYTES + needed_disk_bytes(model, plan, keeps_best=budget.stop_after_evaluations > 0)
    needed -= sum(_taken_bytes(path) for path in folder.rglob("*") if path.name != ROOM_FILE)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainerError(
            f"The run needs {needed / 1e6:,.0f} MB on the disk that holds {folder}, which has {free / 1e6:,.0f} MB "
            "left. Free some space, then start a new run."
        )


def _taken_bytes(path: Path) -> int:
    """Of the disk; 0 where others have deleted the file meanwhile, as the app may have done with its own."""
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def material_of(
    request: RunRequest, snapshot: Snapshot, policy: Scorer, tokenizer: PreTrainedTokenizerBase, findings: Findings
) -> Material:
    """What to train on and what is held out, whatever was left out being counted. Raises NothingToTrainOnError."""
    context = context_tokens(policy.model)
    most = min(context, request.hyperparameters.max_tokens or context)
    found = material_for(request, snapshot, Tokenizing(tokenizer, most))
    findings.material = found
    findings.rankings = len(snapshot.train) + len(snapshot.held_out)
    say(
        f"{found.spoken} to train on, of {len(found.train)} comparisons; {len(found.held_out)} pairs held out; left "
        f"out: {found.left_out}."
    )
    require_something(request, snapshot, found)
    return found


def kept_limits(checkpoints: Path, policy: Scorer, found: Material, *, drifts: bool, ranks: Ranks = ALONE) -> Limits:
    """How much goes through a model at once: as when the run first started, else what memory allows now."""
    path = checkpoints / LIMITS_FILE
    if not path.is_file():
        trees = [group.tree for group in (*found.train, *found.demonstrations)]
        device, shares = fitting_device(), ranks.count if ranks.sharded else 1
        lacking = -bytes_to_train_in(policy.model, device, shares)
        if lacking > 0:
            say(
                f"Training takes {lacking / 1e6:,.0f} MB more than the memory that is left, however little goes "
                "through at once. Should the run be ended for that, give it more memory, or train fewer weights "
                "(LoRA) or a smaller model."
            )
        write_json(path, fitting_limits(policy, trees, drifts=drifts, device=device, shares=shares))
    return read_json(path, Limits)


def kept_matrices(checkpoints: Path, policy: Scorer, request: RunRequest) -> Matrices:
    """What multiplies matrices: as asked for, or as when the run first started, else what is faster now."""
    path = checkpoints / MATRICES_FILE
    if not path.is_file():
        write_whole(path, (request.budget.matrices or fitting_matrices(policy.model)).value.encode())
    return Matrices(path.read_text())


def _watcher(folder: Path, models: Models, exam: Examination, recorder: Recorder) -> Watcher:
    return Watcher(
        folder,
        exam,
        policy=models.policy,
        reference=models.reference,
        tokenizer=models.tokenizer,
        training_seconds=lambda: recorder.seconds.get(Stage.TRAINING, 0.0),
    )


def _measured_before(
    checkpoints: Path, models: Models, exam: Examination, recorder: Recorder, watcher: Watcher
) -> Measured:
    """The start as it was measured by an earlier start of this run, else measured now."""
    path = checkpoints / BEFORE_FILE
    if path.is_file():
        return read_json(path, Measured)
    reference = None if models.starts_at_reference else models.reference
    measured = measure(models.policy, models.tokenizer, reference, exam, on_progress=recorder.tick)
    measured = rewarded(measured, exam, models.policy.limits)
    preferences = measured.results.preferences
    pairs = watched_pairs(preferences.pairs)
    favoured = [
        1.0 if pair.chosen_logp > pair.rejected_logp else 0.5 * (pair.chosen_logp == pair.rejected_logp)
        for pair in pairs
    ]
    recorder.row(
        1.0,
        message=None
        if preferences.accuracy is None
        else f"Before training it agrees with people in {100 * preferences.accuracy:.0f} % of the held-out pairs.",
        held_out_accuracy=fmean(favoured) if favoured else None,
        held_out_pairs=len(pairs),
        held_out_chosen_logp=fmean(pair.chosen_logp for pair in pairs) if pairs else None,
        held_out_rejected_logp=fmean(pair.rejected_logp for pair in pairs) if pairs else None,
        **watcher.look_at_the_start(),
    )
    write_json(path, measured)
    return measured


def _reference(
    request: RunRequest, checkpoints: Path, models: Models, found: Material, *, recorder: Recorder, ranks: Ranks
) -> Reference:
    """The reference's word on all completions: from this run's own notes, then from the shared cache, else computed."""
    tell(ranks, Ask())
    kept = kept_distributions(
        request, models, found, on_progress=lambda share: None if ranks.sharded else recorder.tick(0.7 * share)
    )
    own = checkpoints / REFERENCE_FOLDER
    shared = _shared_cache(request, models.reference)
    table = read_table(own) or (read_table(shared) if shared else {})
    reference, added = ask_about(
        models.reference,
        found.sequences,
        table=table,
        kept=kept,
        on_progress=lambda share: recorder.tick(0.7 + 0.3 * share),
    )
    # The run's own notes come first: what it goes on with after a kill must not depend on what others cached.
    if not own.is_dir():
        add_to_table(own, {**table, **added})
    if shared:
        add_to_table(shared, added)
    return reference


def _shared_cache(request: RunRequest, reference: Scorer) -> Path | None:
    """Where runs keep what this reference says, computed in this number format; None where they keep nothing."""
    if not request.reference_cache:
        return None
    dtype = reference.autocast or reference.model.dtype
    rounded = "" if dtype == torch.float32 else f"-{str(dtype).removeprefix('torch.')}"
    return Path(request.reference_cache) / f"{request.reference.sha256}{rounded}"


def kept_distributions(
    request: RunRequest, models: Models, found: Material, *, on_progress: Callable[[float], None] = lambda share: None
) -> Kept:
    """What every rank keeps of the reference, all ranks doing the same at the same time."""
    with in_step():
        return keep_distributions(
            models.reference,
            found.preferred if request.hyperparameters.drift_weight > 0 else [],
            on_progress=on_progress,
            most_bytes=models.reference.limits.reference_bytes,
        )
