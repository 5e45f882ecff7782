"""Background entry points: carry out a run, and let go of model versions that nothing needs."""

from procrastinate import Blueprint, JobContext, RetryStrategy

from app.background import WorkerStopping, outlasting, workplace
from app.deployments.model_server import ModelServerDown, unload_versions
from app.training.carrying_out import carry_out as carry_out_run
from app.training.carrying_out import fail_run
from app.training.models import Run
from app.training.service import scheduling
from app.training.service.deciding import idle_version_names
from app.training.service.requesting import enqueue_run
from app.training.service.steering import cancel_runs_on_withdrawn
from app.wording import gettext as _
from trainer.contract.steps import Step, passing

blueprint = Blueprint()

MOST_ATTEMPTS = 6
STUBBORN = RetryStrategy(max_attempts=MOST_ATTEMPTS, linear_wait=5)
"""What carries out a run is tried again after errors that are nobody's fault: the database gone for a minute."""


@blueprint.task(name="carry_out", pass_context=True, retry=STUBBORN)
def carry_out(context: JobContext, *, run_id: int) -> None:
    """Bring a run to its end; after too many unexpected errors the run fails rather than wait for ever.

    Where the worker stops meanwhile, the job is put in line anew: that is nobody's failed attempt.
    """
    place = workplace(context)
    try:
        carry_out_run(place, run_id=run_id)
    except WorkerStopping:
        with place.session_factory.begin() as session:
            enqueue_run(session, run=session.get_one(Run, run_id))
    except Exception as error:
        if context.job.attempts >= MOST_ATTEMPTS:
            fail_run(place, run_id=run_id, reason=_("The worker met an error again and again: %(error)s", error=error))
        raise


@blueprint.periodic(cron="* * * * *")
@blueprint.task(name="start_due_runs", pass_context=True, queueing_lock="training:start_due_runs", retry=outlasting())
def start_due_runs(context: JobContext, timestamp: int = 0) -> None:
    """Every minute: train the lines that have gathered enough new judgments."""
    place = workplace(context)
    with place.session_factory.begin() as session:
        scheduling.start_due_runs(session, now=place.clock())


@blueprint.task(name="cancel_withdrawn", pass_context=True, retry=outlasting())
def cancel_withdrawn(context: JobContext) -> None:
    """Call off the runs whose snapshot was withdrawn while they were under way."""
    place = workplace(context)
    with place.session_factory.begin() as session:
        cancel_runs_on_withdrawn(session, now=place.clock())


@blueprint.task(name="release_versions", pass_context=True, retry=outlasting(ModelServerDown), lock="model-server")
def release_versions(context: JobContext, *, line_id: int) -> None:
    """Unload the versions of a line that are neither deployed, nor the one before, nor pinned."""
    place = workplace(context)
    with place.session_factory.begin() as session:
        names = idle_version_names(session, line_id=line_id)
    unload_versions(place.settings, names)
    passing(Step.DEPLOYMENT_RELEASED)
