"""One training run, from `request.json` to `report.json`: read from top to bottom.

Every stage leaves what it found under `checkpoints/`, so a run taken up again after a kill goes on where
it was. Whatever happens, the report is written last and says how the run ended; without one, as when the
trainer was told to leave, the run can be taken up again.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import torch
from pydantic import ValidationError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer.artifact import round_weights
from trainer.chat import template_sha256, tokenizer_sha256
from trainer.checkpoints import discard_checkpoints
from trainer.contract.files import read_json, weights_sha256, write_json
from trainer.contract.report import HeldOutRewards, Outcome, Report, RewardModelResults
from trainer.contract.run import (
    CHECKPOINTS_FOLDER,
    MODEL_FOLDER,
    REPORT_FILE,
    REQUEST_FILE,
    Method,
    RunRequest,
    Stage,
    Tuning,
)
from trainer.contract.steps import Step, passing
from trainer.errors import ModelError, TrainerError
from trainer.evaluate import Examination, Measured, examination, measure, probe_results, prompt_samples
from trainer.following import Stepping, Take, follow, leading
from trainer.logps import Scorer, fitting_scorer
from trainer.loop import WATCHED_PAIRS, optimizer_for, taken_step, taken_up, train
from trainer.material import Material, Tokenizing, material_for, phases_of, require_something
from trainer.memory import Limits, fitting_limits
from trainer.models import base_of, context_tokens, stored_dtype, verify_model
from trainer.phases import phase_at
from trainer.ranks import Ranks, RanksLostError, joined
from trainer.record import Recorder, RunBusyError, RunCancelled, RunInterrupted, run_lock
from trainer.reference import Reference, add_to_table, prepare_reference, read_table
from trainer.reward.model import load_reward_model, write_reward_model
from trainer.reward.results import held_out_rewards, kept_rewards
from trainer.reward.scoring import NoReference, fitting_reward_scorer
from trainer.reward.texts import rewarded, verified_reward_model
from trainer.reward.training import as_reward_request
from trainer.snapshot import Snapshot, read_snapshot, refuse_newer_format
from trainer.trunk import kept_trunk
from trainer.tuning import (
    Plan,
    autocast_dtype,
    needed_disk_bytes,
    prepare,
    settle,
    trained_layers,
    write_version,
)
from trainer.watching import Watcher

BEFORE_FILE = "before.json"
LIMITS_FILE = "limits.json"
REFERENCE_FOLDER = "reference"
TRUNK_FOLDER = "trunk"
SMALL_MODEL_PARAMETERS = 4_000_000
ROOM_FILE = "room"
"""Under `checkpoints/`, held so that a report can be written on a disk that has run full."""
LEAST_FREE_BYTES = 2**20
log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "pyarrow")


class ExitCode(IntEnum):
    """How the process ends. Any other code (that of a kill) means: no report, start it again to go on."""

    DONE = 0
    """The run succeeded, or had ended before."""
    FAILED = 1
    """The report says why."""
    USAGE = 2
    """No such folder, or no such command."""
    BUSY = 3
    """Another trainer holds the run."""
    CANCELLED = 4
    INTERRUPTED = 5
    """Told to leave (SIGTERM, Ctrl-C): no report, but a checkpoint; start it again to go on."""


@dataclass
class Findings:
    """What a run knows of itself so far; a report is made of it however the run ends."""

    request: RunRequest | None = None
    steps: int = 0
    rankings: int = 0
    train_tokens: int = 0
    stopped: str = ""
    material: Material = field(default_factory=Material)
    hashes: dict[str, str] = field(default_factory=dict)
    exam: Examination | None = None
    before: Measured | None = None
    after: Measured | None = None
    rewards_before: HeldOutRewards | None = None
    rewards_after: HeldOutRewards | None = None


@dataclass(frozen=True)
class Models:
    """The policy in training, the frozen reference, and what is trained of the policy."""

    policy: Scorer
    tokenizer: PreTrainedTokenizerBase
    reference: Scorer
    plan: Plan
    starts_at_reference: bool


def run(folder: Path, *, must_leave: Callable[[], bool] = lambda: False) -> ExitCode:
    """Carry out the run in `folder`, or what is left of it, and say how that ended.

    `must_leave` is asked between steps and between batches of samples; once it says so, the run is left where it is.
    """
    if not folder.is_dir():
        say(f"There is no run folder at {folder}.")
        return ExitCode.USAGE
    try:
        with joined() as ranks:
            if not ranks.leads:
                follow(ranks, lambda: _follower(folder, ranks))
                return ExitCode.DONE
            with leading(ranks), run_lock(folder):
                return _run_to_a_report(folder, must_leave, ranks)
    except RunBusyError as error:
        say(str(error))
        return ExitCode.BUSY
    except (RunInterrupted, RanksLostError) as error:
        say(f"{error} Start the run again to go on with it.".lstrip())
        return ExitCode.INTERRUPTED


def _follower(folder: Path, ranks: Ranks) -> Stepping:
    """What a rank that follows needs to take steps, from the run's own files."""
    request = read_request(folder)
    checkpoints = folder / CHECKPOINTS_FOLDER
    findings = Findings()
    snapshot = read_snapshot(Path(request.snapshot.path), rows_sha256=request.snapshot.rows_sha256)
    models = _load_models(request, findings)
    found = _material(request, snapshot, models.policy, models.tokenizer, findings)
    models.policy.limits = models.reference.limits = read_json(checkpoints / LIMITS_FILE, Limits)
    reference, _ = prepare_reference(
        models.reference,
        found.sequences,
        table=read_table(checkpoints / REFERENCE_FOLDER),
        with_distributions_of=found.preferred if request.hyperparameters.drift_weight > 0 else [],
        on_progress=lambda share: None,
    )
    phases = phases_of(request, found)
    optimizer = optimizer_for(models.policy, phases)
    taken_up(checkpoints, models.policy, optimizer)

    def take(order: Take) -> None:
        phase, own_step = phase_at(phases, order.step)
        taken_step(
            models.policy, optimizer, phase, own_step, reference, anchor=order.anchor, seed=request.seed, ranks=ranks
        )

    return take


def _run_to_a_report(folder: Path, must_leave: Callable[[], bool], ranks: Ranks) -> ExitCode:
    if (folder / REPORT_FILE).is_file():
        say(f"{folder / REPORT_FILE} is there: the run has ended, nothing is left to do.")
        return ExitCode.DONE
    findings = Findings()
    recorder: Recorder | None = None
    state, message = Outcome.SUCCEEDED, ""
    try:
        recorder = Recorder(folder, say=say, must_leave=must_leave)
        (folder / CHECKPOINTS_FOLDER / ROOM_FILE).write_bytes(bytes(LEAST_FREE_BYTES))
        findings.request = read_request(folder)
        trains_reward_model = findings.request.method is Method.REWARD_MODEL
        carry_out = _carry_out_reward_model if trains_reward_model else _carry_out
        carry_out(findings.request, folder, recorder, findings, ranks)
    except (RunInterrupted, RanksLostError):
        raise
    except RunCancelled:
        state, message = Outcome.CANCELLED, "The run was cancelled. No model was written."
    except TrainerError as error:
        state, message = Outcome.FAILED, str(error)
    except Exception as error:
        log.exception("The run broke off")
        state, message = Outcome.FAILED, told(error, folder)
    say(message or "The run has succeeded.")
    (folder / CHECKPOINTS_FOLDER / ROOM_FILE).unlink(missing_ok=True)
    try:
        write_json(folder / REPORT_FILE, _report(folder, recorder, findings, state, message))
        passing(Step.TRAINING_REPORTED)
    except OSError as error:
        say(f"The report could not be written: {error}. Once that is seen to, start the run again to go on.")
        return ExitCode.FAILED
    if state is not Outcome.FAILED:
        discard_checkpoints(folder / CHECKPOINTS_FOLDER)
    return {Outcome.SUCCEEDED: ExitCode.DONE, Outcome.CANCELLED: ExitCode.CANCELLED}.get(state, ExitCode.FAILED)


def told(error: Exception, folder: Path) -> str:
    """What to tell a person about an error that no one foresaw. Libraries hide a full disk behind other errors."""
    disk_is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if disk_is_full or shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        return f"The disk that holds {folder} is full. Free some space, then start a new run."
    if isinstance(error, MemoryError):
        return "The machine has too little memory for this model. Choose a smaller one, or a larger machine."
    if isinstance(error, OSError):
        return f"A file could not be read or written: {error}. See to it, then start a new run."
    return f"The trainer met an error it does not know ({type(error).__name__}: {error}). The log has the details."


def refuse_full_disk(folder: Path, model: PreTrainedModel, plan: Plan) -> None:
    """Raise TrainerError where checkpoints and the trained model will not fit on the disk."""
    needed = LEAST_FREE_BYTES + needed_disk_bytes(model, plan)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainerError(
            f"The run needs {needed / 1e6:,.0f} MB on the disk that holds {folder}, which has {free / 1e6:,.0f} MB "
            "left. Free some space, then start a new run."
        )


def read_request(folder: Path) -> RunRequest:
    """The run's request. Raises TrainerError where it is missing, newer than this code, or not understood."""
    path = folder / REQUEST_FILE
    if not path.is_file():
        raise TrainerError(f"{folder} holds no {REQUEST_FILE}, so there is nothing to carry out.")
    try:
        refuse_newer_format(json.loads(path.read_bytes()), what=f"The request {path}")
        return read_json(path, RunRequest)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise TrainerError(f"{path} is not understood: {place}: {fault['msg']}.") from error
    except ValueError as error:
        raise TrainerError(f"{path} is not JSON: {error}.") from error


def _carry_out(request: RunRequest, folder: Path, recorder: Recorder, findings: Findings, ranks: Ranks) -> None:
    torch.manual_seed(request.seed)
    checkpoints = folder / CHECKPOINTS_FOLDER
    with recorder.stage(Stage.LOADING, f"Loading {request.start.name} and the snapshot."):
        snapshot = read_snapshot(Path(request.snapshot.path), rows_sha256=request.snapshot.rows_sha256)
        findings.hashes["rows_sha256"] = snapshot.manifest.rows_sha256
        findings.hashes |= verified_reward_model(request)
        models = _load_models(request, findings)
        refuse_full_disk(folder, models.policy.model, models.plan)
        found = _material(request, snapshot, models.policy, models.tokenizer, findings)
        exam = examination(
            request, snapshot, found.held_out, models.tokenizer, max_tokens=context_tokens(models.policy.model)
        )
        findings.exam = exam
        limits = _limits(checkpoints, models.policy, found)
        models.policy.limits = models.reference.limits = limits
        recorder.pace.most_seconds = request.budget.max_seconds or math.inf
        watcher = _watcher(folder, models, exam, recorder)
    passing(Step.TRAINING_LOADED)
    with recorder.stage(Stage.BEFORE, f"Measuring {request.start.name} on {len(found.held_out)} held-out pairs."):
        findings.before = _measured_before(checkpoints, models, exam, recorder, watcher)
    passing(Step.TRAINING_MEASURED_BEFORE)
    with recorder.stage(Stage.REFERENCE, f"Asking the reference, {request.reference.name}, about every completion."):
        reference = _reference(request, checkpoints, models, found, recorder)
    passing(Step.TRAINING_REFERENCE_KNOWN)
    with recorder.stage(Stage.TRAINING, f"Training on {found.spoken}."):
        layers = trained_layers(models.policy.model, models.plan, request.hyperparameters)
        with kept_trunk(models.policy, layers, checkpoints / TRUNK_FOLDER):
            state = train(
                models.policy,
                phases=phases_of(request, found),
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
        if state.stopped:
            say(state.stopped)
    settle(models.policy.model, models.plan)
    with recorder.stage(Stage.AFTER, f"Measuring {request.version_name}."):
        measured = measure(models.policy, models.tokenizer, models.reference, exam, on_progress=recorder.tick)
        findings.after = rewarded(measured, exam, models.policy.limits)
    passing(Step.TRAINING_MEASURED_AFTER)
    with recorder.stage(Stage.WRITING, f"Writing {request.version_name}."):
        write_version(models.policy.model, models.plan, folder / MODEL_FOLDER)
        findings.hashes["model"] = weights_sha256(folder / MODEL_FOLDER)
        recorder.row(1.0)
    passing(Step.TRAINING_MODEL_WRITTEN)


def _carry_out_reward_model(
    request: RunRequest, folder: Path, recorder: Recorder, findings: Findings, _ranks: Ranks
) -> None:
    """The same for a reward model, which has no reference and writes no text. Of several ranks the leader is enough."""
    torch.manual_seed(request.seed)
    request, checkpoints = as_reward_request(request), folder / CHECKPOINTS_FOLDER
    with recorder.stage(Stage.LOADING, f"Loading {request.start.name} and the snapshot."):
        snapshot = read_snapshot(Path(request.snapshot.path), rows_sha256=request.snapshot.rows_sha256)
        start_folder = verify_model(request.start)
        if base_of(request.start) is not None:
            raise ModelError(f"{request.start.name} is an adapter. A reward model starts from whole weights: the base.")
        findings.hashes |= {"rows_sha256": snapshot.manifest.rows_sha256, "start": request.start.sha256}
        model, tokenizer = load_reward_model(start_folder)
        torch.set_num_threads(request.budget.threads or fitting_threads(model))
        findings.hashes |= {"tokenizer": tokenizer_sha256(tokenizer), "chat_template": template_sha256(tokenizer)}
        refuse_full_disk(folder, model, Plan(Tuning.FULL, request.start, start_folder, merged=False))
        scorer = fitting_reward_scorer(model)
        found = _material(request, snapshot, scorer, tokenizer, findings)
        scorer.limits = _limits(checkpoints, scorer, found)
    passing(Step.TRAINING_LOADED)
    with recorder.stage(Stage.BEFORE, f"Measuring a fresh head on {len(found.held_out)} held-out pairs."):
        findings.rewards_before = kept_rewards(checkpoints / BEFORE_FILE, scorer, found.held_out)
        recorder.row(1.0, held_out_accuracy=findings.rewards_before.accuracy)
    passing(Step.TRAINING_MEASURED_BEFORE)
    with recorder.stage(Stage.TRAINING, f"Training a reward model on {found.spoken}."):
        state = train(
            scorer,
            phases=phases_of(request, found),
            held_out=found.held_out,
            reference=NoReference(scorer),
            budget=request.budget,
            seed=request.seed,
            recorder=recorder,
            checkpoints=checkpoints,
        )
        findings.steps, findings.train_tokens, findings.stopped = state.step, state.tokens, state.stopped
        if state.stopped:
            say(state.stopped)
    dtype = stored_dtype(start_folder)
    round_weights(model, dtype)
    with recorder.stage(Stage.AFTER, f"Measuring {request.version_name}."):
        findings.rewards_after = held_out_rewards(scorer, found.held_out)
    passing(Step.TRAINING_MEASURED_AFTER)
    with recorder.stage(Stage.WRITING, f"Writing {request.version_name}."):
        write_reward_model(model, tokenizer, folder / MODEL_FOLDER, start=start_folder, dtype=dtype)
        findings.hashes["model"] = weights_sha256(folder / MODEL_FOLDER)
        recorder.row(1.0)
    passing(Step.TRAINING_MODEL_WRITTEN)


def _load_models(request: RunRequest, findings: Findings) -> Models:
    prepared = prepare(request)
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
    autocast = autocast_dtype(prepared.policy.device)
    return Models(
        policy=fitting_scorer(prepared.policy, autocast=autocast),
        tokenizer=tokenizer,
        reference=fitting_scorer(prepared.reference, autocast=autocast),
        plan=plan,
        starts_at_reference=request.start.sha256 == request.reference.sha256,
    )


def fitting_threads(model: PreTrainedModel) -> int:
    """Torch's own choice; one for a model so small that threads would mostly wait for each other.

    A rule rather than a measurement, as the numbers of a run depend on it to the last bit.
    """
    return 1 if model.num_parameters() < SMALL_MODEL_PARAMETERS else torch.get_num_threads()


def _material(
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


def _limits(checkpoints: Path, policy: Scorer, found: Material) -> Limits:
    """How much goes through a model at once: as when the run first started, else what memory allows now."""
    path = checkpoints / LIMITS_FILE
    if not path.is_file():
        write_json(path, fitting_limits(policy, [group.tree for group in (*found.train, *found.demonstrations)]))
    return read_json(path, Limits)


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
    pairs = preferences.pairs[:WATCHED_PAIRS]
    recorder.row(
        1.0,
        message=f"Held-out accuracy before training: {preferences.accuracy}",
        held_out_accuracy=preferences.accuracy,
        held_out_pairs=len(pairs),
        held_out_chosen_logp=fmean(pair.chosen_logp for pair in pairs) if pairs else None,
        held_out_rejected_logp=fmean(pair.rejected_logp for pair in pairs) if pairs else None,
        **watcher.look_at_the_start(),
    )
    write_json(path, measured)
    return measured


def _reference(
    request: RunRequest, checkpoints: Path, models: Models, found: Material, recorder: Recorder
) -> Reference:
    """The reference's word on all completions: from this run's own notes, then from the shared cache, else computed."""
    own = checkpoints / REFERENCE_FOLDER
    shared = Path(request.reference_cache) / request.reference.sha256 if request.reference_cache else None
    table = read_table(own) or (read_table(shared) if shared else {})
    reference, added = prepare_reference(
        models.reference,
        found.sequences,
        table=table,
        with_distributions_of=found.preferred if request.hyperparameters.drift_weight > 0 else [],
        on_progress=recorder.tick,
    )
    # The run's own notes come first: what it goes on with after a kill must not depend on what others cached.
    if not own.is_dir():
        add_to_table(own, {**table, **added})
    if shared:
        add_to_table(shared, added)
    return reference


def _report(folder: Path, recorder: Recorder | None, findings: Findings, state: Outcome, message: str) -> Report:
    now = datetime.now(UTC)
    both = findings.before is not None and findings.after is not None
    exam, before, after = findings.exam, findings.before, findings.after
    return Report(
        run_id=findings.request.run_id if findings.request else folder.name,
        state=state,
        message=message,
        started_at=recorder.started_at if recorder else now,
        finished_at=now,
        steps=findings.steps or (recorder.step if recorder else 0),
        stopped=findings.stopped,
        resumed=recorder.resumed if recorder else 0,
        seconds={name: round(value, 3) for name, value in recorder.seconds.items()} if recorder else {},
        rankings=findings.rankings,
        train_pairs=findings.material.pairs,
        held_out_pairs=len(findings.material.held_out),
        demonstrations=len(findings.material.demonstrations),
        train_tokens=findings.train_tokens or (recorder.tokens if recorder else 0),
        dropped=dict(+findings.material.dropped),
        before=before.results if before else None,
        after=after.results if after else None,
        reward_model=_reward_model(findings),
        samples=prompt_samples(exam, before, after) if exam and before else [],
        probes=probe_results(exam.request, before, after) if both and exam and before and after else [],
        libraries={name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        hashes=findings.hashes,
    )


def _reward_model(findings: Findings) -> RewardModelResults | None:
    if findings.request is None or findings.request.method is not Method.REWARD_MODEL:
        return None
    return RewardModelResults(before=findings.rewards_before, after=findings.rewards_after)


def say(message: str) -> None:
    """Tell whoever started the trainer; its standard output is the run's log."""
    log.info(message)
