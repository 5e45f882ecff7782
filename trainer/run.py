"""One training run, from `request.json` to `report.json`.

Whatever happens, the report is written last and says how the run ended; without one, as when the trainer was told to
leave, the run can be taken up again. What it does meanwhile is in `stages`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import closing
from enum import IntEnum
from pathlib import Path

from trainer.checkpoints import discard_checkpoints
from trainer.contract.files import write_json
from trainer.contract.report import Outcome
from trainer.contract.run import (
    CHECKPOINTS_FOLDER,
    REPORT_FILE,
    Method,
)
from trainer.contract.steps import Step, passing
from trainer.devices import compute_repeatably
from trainer.errors import TrainerError, disk_ran_full, with_causes
from trainer.findings import Findings, report_of
from trainer.follower import Follower
from trainer.following import follow, leading
from trainer.memory import ran_out_of_memory
from trainer.ranks import Ranks, RanksLostError, joined, noticing_lost_ranks
from trainer.record import Recorder, RunBusyError, RunCancelled, RunInterrupted, run_lock, say
from trainer.request import read_request
from trainer.reward.stages import carry_out_reward_model
from trainer.stages import LEAST_FREE_BYTES, ROOM_FILE, carry_out

log = logging.getLogger(__name__)


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


def run(folder: Path, *, must_leave: Callable[[], bool] = lambda: False, sharded: bool = False) -> ExitCode:
    """Carry out the run in `folder`, or what is left of it, and say how that ended.

    `must_leave` is asked between steps and between batches of samples; once it says so, the run is left where it is.
    Where several processes carry it out, each holds all of the models, or with `sharded` a share alone.
    """
    if not folder.is_dir():
        say(f"There is no run folder at {folder}.")
        return ExitCode.USAGE
    compute_repeatably()
    try:
        with joined(sharded=sharded) as ranks:
            if not ranks.leads:
                with noticing_lost_ranks(), closing(Follower(folder, ranks)) as follower:
                    follow(ranks, follower.heed)
                return ExitCode.DONE
            with leading(ranks), run_lock(folder):
                return _run_to_a_report(folder, must_leave, ranks)
    except RunBusyError as error:
        say(str(error))
        return ExitCode.BUSY
    except (RunInterrupted, RanksLostError) as error:
        say(f"{error} Start the run again to go on with it.".lstrip())
        return ExitCode.INTERRUPTED


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
        carried_out = carry_out_reward_model if trains_reward_model else carry_out
        with noticing_lost_ranks():
            carried_out(findings.request, folder, recorder, findings, ranks)
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
        write_json(folder / REPORT_FILE, report_of(folder, recorder, findings, state, message))
        passing(Step.TRAINING_REPORTED)
    except OSError as error:
        say(f"The report could not be written: {error}. Once that is seen to, start the run again to go on.")
        return ExitCode.FAILED
    if state is not Outcome.FAILED:
        discard_checkpoints(folder / CHECKPOINTS_FOLDER)
    return {Outcome.SUCCEEDED: ExitCode.DONE, Outcome.CANCELLED: ExitCode.CANCELLED}.get(state, ExitCode.FAILED)


def told(error: Exception, folder: Path) -> str:
    """What to tell a person about an error that no one foresaw. Libraries hide a full disk behind other errors."""
    if disk_ran_full(error) or shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        return f"The disk that holds {folder} is full. Free some space, then start a new run."
    if any(map(ran_out_of_memory, with_causes(error))):
        return (
            "The machine, or its GPU, has too little memory for this model. Start a new run with a smaller model, an "
            "adapter (tuning `lora`) or a lower `max_tokens`, or on a larger machine."
        )
    if isinstance(error, OSError):
        return f"A file could not be read or written: {error}. See to it, then start a new run."
    return f"The trainer met an error it does not know ({type(error).__name__}: {error}). The log has the details."
