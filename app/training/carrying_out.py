"""Carrying out a run, from a frozen snapshot to a version that serves: read from top to bottom.

It can be killed anywhere and called again: each step first looks whether it has been taken. The trainer is a
process of its own. It outlives a worker that dies, and whoever carries the run on finds it by its lock; a worker that
is told to stop sends it away first, and whoever carries the run on starts it again from its checkpoint.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.background import WorkerStopping, Workplace
from app.datasets.models import SnapshotState
from app.datasets.service.freezing import freeze_snapshot
from app.deployments.service import find_reward_model
from app.errors import Conflict, DomainError
from app.live.announcing import announce
from app.training.launchers import launcher_for
from app.training.models import LineProbe, Run, RunState
from app.training.run_folder import (
    Metrics,
    add_to_log,
    alone,
    end_of_log,
    give_order,
    read_starts,
    write_request,
    write_starts,
)
from app.training.service.ending import finish_run, stop_run, storable
from app.training.trainer_process import TrainerProcess
from app.training.warning_signs import warnings_of
from app.wording import gettext as _
from trainer.contract.files import read_json, weights_sha256
from trainer.contract.report import Outcome, Report
from trainer.contract.run import (
    LOG_FILE,
    MODEL_FOLDER,
    REPORT_FILE,
    REQUEST_FILE,
    Budget,
    Command,
    Hyperparameters,
    Method,
    ModelRef,
    ProbePrompt,
    RunRequest,
    SnapshotRef,
)
from trainer.contract.server import version_name
from trainer.contract.steps import Step, passing

log = logging.getLogger(__name__)

POLL_SECONDS = 0.7
"""How often the run's row is brought up to date while the trainer works."""
MOST_STARTS_IN_VAIN = 3
"""How often a trainer that died is started again without getting further than before."""
CANCEL_PATIENCE_SECONDS = 60.0
"""How long a trainer may take to heed a cancellation before it is killed: loading a large model takes a while."""
PAUSE_PATIENCE_SECONDS = 120.0
"""How long a paused trainer waits where it is, to go on at once; then it leaves with a checkpoint, and its memory is
free for others."""
LEAVE_SECONDS = 5.0
"""How long a trainer may take to write a checkpoint and leave, less than `palate up` waits for the worker to stop."""
PUT_ASIDE_SECONDS = 600.0
"""The same where it is only put aside: the checkpoint of a large model takes minutes, and nobody is in a hurry."""
WAITING_TO_GO_ON = (
    "Waiting to go on: the worker was stopped. The run goes on from where it is once a worker runs again."
)
PUT_ASIDE = "Paused. The run goes on from where it is once somebody continues it."


class RunPutAside(Exception):
    """The run is paused and its trainer gone. Whoever continues or cancels it puts it in line again."""


def carry_out(place: Workplace, *, run_id: int, poll_seconds: float = POLL_SECONDS) -> None:
    """Bring a run to its end, wherever it stands; a run that is over is left alone.

    A worker that is only taken for dead may still be at it: then this one waits, and finds the run over.
    Raises WorkerStopping where the worker was told to stop first. A run that stays paused is left for later.
    """
    folder = place.settings.runs_dir.resolve() / str(run_id)
    with alone(folder.with_name(f"{run_id}.worker-lock")):
        try:
            if _prepare(place, run_id=run_id, folder=folder):
                _train(place, run_id=run_id, folder=folder, poll_seconds=poll_seconds)
        except RunPutAside:
            log.info("Run %s is paused and put aside.", run_id)
        except DomainError as error:
            _stop(place, run_id, RunState.FAILED, error.message)


def _train(place: Workplace, *, run_id: int, folder: Path, poll_seconds: float) -> None:
    report = _follow(place, run_id=run_id, folder=folder, poll_seconds=poll_seconds)
    if report is None:
        _stop(place, run_id, RunState.CANCELLED, _("The run was cancelled. No model was written."))
        return
    passing(Step.RUN_REPORT_SEEN)
    _verify(folder, report)
    passing(Step.REGISTRATION_VERIFIED)
    with place.session_factory.begin() as session:
        model_path = str(folder / MODEL_FOLDER)
        finish_run(session, run_id=run_id, report=report, model_path=model_path, now=place.clock())
    passing(Step.REGISTRATION_COMMITTED)


def fail_run(place: Workplace, *, run_id: int, reason: str) -> None:
    """Give a run up that cannot be carried out."""
    _stop(place, run_id, RunState.FAILED, reason)


def _stop(place: Workplace, run_id: int, state: RunState, message: str) -> None:
    with place.session_factory.begin() as session:
        stop_run(session, run_id=run_id, state=state, message=message, now=place.clock())


# --- Before


def _prepare(place: Workplace, *, run_id: int, folder: Path) -> bool:
    """Freeze the snapshot, write the request and mark the run as running.

    False where it is over already, or was paused before it started.
    """
    with place.session_factory.begin() as session:
        run = session.get_one(Run, run_id, with_for_update=True)
        if run.state.is_over or (run.is_paused and run.state is RunState.WAITING):
            return False
        snapshot_id, frozen = run.snapshot_id, run.snapshot.state is SnapshotState.READY
        if run.state is RunState.WAITING:
            run.state = RunState.RUNNING
            run.started_at = place.clock()
            run.message = "Starting." if frozen else _("Freezing the snapshot.")
            announce(session, "run", run_id)
    passing(Step.RUN_BEGUN)
    if not frozen:
        freeze_snapshot(place.session_factory, place.settings, snapshot_id=snapshot_id, now=place.clock())
    with place.session_factory.begin() as session:
        request = _request(session, session.get_one(Run, run_id), place)
    write_request(folder, request)
    passing(Step.RUN_REQUESTED)
    return True


def _request(session: Session, run: Run, place: Workplace) -> RunRequest:
    """What the trainer is asked to do, told from the run's row."""
    snapshot = run.snapshot
    if snapshot.state is not SnapshotState.READY or snapshot.path is None or snapshot.rows_sha256 is None:
        raise Conflict(_("The run's snapshot has been withdrawn. Start a new run; it takes a new snapshot."))
    probes = session.scalars(select(LineProbe.probe).where(LineProbe.line_id == run.line_id).order_by(LineProbe.id))
    budget = Budget.model_validate(run.budget)
    threads = budget.threads or place.settings.trainer_threads
    return RunRequest(
        run_id=str(run.id),
        version_name=version_name(run.line.slug, run.version_number),
        snapshot=SnapshotRef(path=snapshot.path, rows_sha256=snapshot.rows_sha256),
        base_model=run.base_version.reference(),
        start=run.start_version.reference(),
        reference=run.reference_version.reference(),
        method=Method(run.method),
        hyperparameters=Hyperparameters.model_validate(run.hyperparameters),
        seed=run.seed,
        budget=budget.model_copy(update={"threads": threads}),
        probes=[ProbePrompt.model_validate(probe) for probe in probes],
        reward_model=None if run.trains_reward_model else _reward_model(session, run),
        reference_cache=str(place.settings.data_dir.resolve() / "reference-cache"),
    )


def _reward_model(session: Session, run: Run) -> ModelRef | None:
    """The line's reward model, which gives samples rewards. One whose folder is gone is no reason not to train."""
    version = find_reward_model(session, line_id=run.line_id)
    return version.reference() if version is not None and Path(version.path).is_dir() else None


# --- While the trainer works


def _follow(place: Workplace, *, run_id: int, folder: Path, poll_seconds: float) -> Report | None:
    """Start the trainer or find it, and keep the run's row up to date until its report is there.

    None where the run was cancelled before there was a report. Raises Conflict where the trainer keeps dying,
    WorkerStopping where the worker is told to stop, RunPutAside where it stays paused.
    """
    request = read_json(folder / REQUEST_FILE, RunRequest)
    trainer, metrics = TrainerProcess(folder, launcher_for(place.settings, request)), Metrics.of(folder)
    wanted, wanted_since = Command.RUN, time.monotonic()
    while True:
        alive = trainer.is_alive()  # asked before looking for the report, which is the last thing that it writes
        before, wanted = wanted, _note_progress(place, run_id=run_id, folder=folder, metrics=metrics)
        if wanted is not before:
            wanted_since = time.monotonic()
        waited = time.monotonic() - wanted_since
        if (folder / REPORT_FILE).is_file():
            trainer.let_end(seconds=10)
            _note_progress(place, run_id=run_id, folder=folder, metrics=metrics)
            return read_json(folder / REPORT_FILE, Report)
        if not alive and wanted is Command.CANCEL:
            return None
        if place.stopping.is_set():
            _leave(place, run_id=run_id, folder=folder, trainer=trainer, metrics=metrics)
        if wanted is Command.PAUSE and (not alive or waited > PAUSE_PATIENCE_SECONDS):
            _put_aside(place, run_id=run_id, folder=folder, trainer=trainer, metrics=metrics)
            continue
        give_order(folder, wanted)
        if not alive:
            _start_again(trainer, folder, metrics, log_environment=place.settings.log_environment)
        elif wanted is Command.CANCEL and waited > CANCEL_PATIENCE_SECONDS:
            trainer.kill()
        place.stopping.wait(poll_seconds)


def _start_again(
    trainer: TrainerProcess, folder: Path, metrics: Metrics, *, log_environment: Mapping[str, str]
) -> None:
    """Start the trainer; it goes on from its last checkpoint. Raises Conflict where that has been in vain."""
    done = max((row.fraction for row in metrics.rows.values()), default=0.0)
    starts = read_starts(folder).another(done)
    if starts.in_vain > MOST_STARTS_IN_VAIN:
        status = trainer.exit_status()
        ended = f" (exit status {status})" if status is not None else ""
        raise Conflict(
            _(
                "The trainer died %(times)s times at the same place without a report%(ended)s. Often that is "
                "memory: free some, or start a new run that trains fewer weights (LoRA) or has a lower max_tokens. The "
                "log ends with:\n%(log)s",
                times=MOST_STARTS_IN_VAIN + 1,
                ended=ended,
                log=end_of_log(folder / LOG_FILE, characters=1200) or "(nothing)",
            )
        )
    write_starts(folder, starts)
    trainer.start(log_environment)
    passing(Step.RUN_TRAINER_STARTED)


def _leave(place: Workplace, *, run_id: int, folder: Path, trainer: TrainerProcess, metrics: Metrics) -> NoReturn:
    """Send the trainer away and leave the run, still running, to whoever carries it on. Raises WorkerStopping."""
    _send_away(place, folder, trainer)
    _note_progress(place, run_id=run_id, folder=folder, metrics=metrics)
    waiting = update(Run).where(Run.id == run_id, Run.state == RunState.RUNNING)
    with place.session_factory.begin() as session:
        session.execute(waiting.where(~Run.cancel_requested, ~Run.pause_requested).values(message=WAITING_TO_GO_ON))
        announce(session, "run", run_id)
    raise WorkerStopping


def _put_aside(place: Workplace, *, run_id: int, folder: Path, trainer: TrainerProcess, metrics: Metrics) -> None:
    """Send a paused trainer away and leave the run until it is continued. Raises RunPutAside, unless the trainer
    has ended the run meanwhile.
    """
    _send_away(place, folder, trainer)
    if (folder / REPORT_FILE).is_file():
        return
    _note_progress(place, run_id=run_id, folder=folder, metrics=metrics)
    paused = update(Run).where(Run.id == run_id, Run.state == RunState.RUNNING, Run.pause_requested)
    with place.session_factory.begin() as session:
        session.execute(paused.values(message=PUT_ASIDE))
        announce(session, "run", run_id)
    raise RunPutAside


def _send_away(place: Workplace, folder: Path, trainer: TrainerProcess) -> None:
    if trainer.is_alive():
        trainer.send_away(most_seconds=lambda: LEAVE_SECONDS if place.stopping.is_set() else PUT_ASIDE_SECONDS)
        write_starts(folder, read_starts(folder).one_less())


def _note_progress(place: Workplace, *, run_id: int, folder: Path, metrics: Metrics) -> Command:
    """Write how far the run has come into its row; what people want of it."""
    samples_came = metrics.watched.read_on()  # before the metrics, whose row of an evaluation is written after them
    news = metrics.read_on()
    asked = select(Run.cancel_requested, Run.pause_requested, Run.log, Run.warnings).where(Run.id == run_id)
    with place.session_factory.begin() as session:
        run = session.execute(asked).one()
        warnings = warnings_of(metrics.in_order()) if metrics.evaluations_came else []
        known = {each["name"] for each in run.warnings}
        for new in (each for each in warnings if each.name not in known):
            add_to_log(folder / LOG_FILE, new.sentence, environment=place.settings.log_environment)
        log = end_of_log(folder / LOG_FILE)
        values: dict[str, object] = {"log": log} if log != run.log else {}
        if samples_came:
            values["samples"] = storable([evaluation.model_dump(mode="json") for evaluation in metrics.watched.kept()])
        if news and metrics.latest is not None:
            values["fraction"] = metrics.latest.fraction
            values["latest"] = metrics.latest.model_dump(mode="json", exclude_none=True)
            values["metrics"] = [row.model_dump(mode="json", exclude_none=True) for row in metrics.chart_rows()]
        if metrics.evaluations_came:
            values["warnings"] = [each.model_dump(mode="json") for each in warnings]
        if news and metrics.message and not run.cancel_requested:
            values["message"] = metrics.message
        if values:
            session.execute(update(Run).where(Run.id == run_id, Run.state == RunState.RUNNING).values(values))
            announce(session, "run", run_id)
    if run.cancel_requested:
        return Command.CANCEL
    return Command.PAUSE if run.pause_requested else Command.RUN


# --- After


def _verify(folder: Path, report: Report) -> None:
    """Refuse a model folder that is not the one the report speaks of. Raises Conflict."""
    if report.state is not Outcome.SUCCEEDED:
        return
    try:
        found = weights_sha256(folder / MODEL_FOLDER)
    except OSError:
        found = ""
    if found != report.hashes.get("model"):
        raise Conflict(
            _(
                "The model in %(folder)s is not the one that the run's report speaks of: it is missing, "
                "or was changed. Start a new run.",
                folder=folder / MODEL_FOLDER,
            )
        )
