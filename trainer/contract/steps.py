"""The named steps at which a plug can be pulled.

Each place that must survive a kill says which step it is passing. In service that costs one look at a constant.
The fault harness (`python -m tests.faults`) starts Palate with `PULL_PLUGS_IN` naming a folder; the process that
passes a step whose name lies there as a file ends on the spot, as by `kill -9`, and the file is gone.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from pathlib import Path

# Not a setting: a trainer is handed none, and this has no meaning outside the harness.
_ARMED = Path(os.environ["PULL_PLUGS_IN"]) if "PULL_PLUGS_IN" in os.environ else None


class Step(StrEnum):
    """Where work can be cut: `<what>.<what has just been done>`. One not yet committed says so by its verb's -ing."""

    JUDGMENT_RECORDING = "judgment.recording"
    REQUEST_COMMITTED = "request.committed"

    GENERATION_DRAWN = "generation.drawn"
    GENERATION_STORING = "generation.storing"
    GENERATION_STORED = "generation.stored"

    SNAPSHOT_BEGUN = "snapshot.begun"
    SNAPSHOT_ROWS_WRITTEN = "snapshot.rows-written"
    SNAPSHOT_ANNOTATORS_NOTED = "snapshot.annotators-noted"
    SNAPSHOT_MANIFEST_WRITTEN = "snapshot.manifest-written"
    SNAPSHOT_MOVED = "snapshot.moved"
    SNAPSHOT_EXPORTED = "snapshot.exported"
    SNAPSHOT_MARKING = "snapshot.marking"
    SNAPSHOT_MARKED = "snapshot.marked"

    RUN_BEGUN = "run.begun"
    RUN_REQUESTED = "run.requested"
    RUN_TRAINER_STARTED = "run.trainer-started"
    RUN_REPORT_SEEN = "run.report-seen"

    TRAINING_LOADED = "training.loaded"
    TRAINING_MEASURED_BEFORE = "training.measured-before"
    TRAINING_REFERENCE_KNOWN = "training.reference-known"
    TRAINING_STEPPED = "training.stepped"
    TRAINING_CHECKPOINT_WRITING = "training.checkpoint-writing"
    TRAINING_CHECKPOINT_WRITTEN = "training.checkpoint-written"
    TRAINING_MEASURED_AFTER = "training.measured-after"
    TRAINING_MODEL_WRITTEN = "training.model-written"
    TRAINING_REPORTED = "training.reported"

    REGISTRATION_VERIFIED = "registration.verified"
    REGISTRATION_ENTERING = "registration.entering"
    REGISTRATION_DEPLOYING = "registration.deploying"
    REGISTRATION_COMMITTED = "registration.committed"

    DEPLOYMENT_LOADED = "deployment.loaded"
    DEPLOYMENT_POINTED = "deployment.pointed"
    DEPLOYMENT_TURNING_OVER = "deployment.turning-over"
    DEPLOYMENT_RELEASED = "deployment.released"

    SERVING_LOADED = "serving.loaded"
    SERVING_POINTED = "serving.pointed"


def passing(step: Step) -> None:
    """Say that `step` has been reached; where the harness has armed it, the process ends here."""
    if _ARMED is None:
        return
    try:
        (_ARMED / step).unlink()  # whoever removes it is the one that ends
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
