"""Background entry points: tell the model server after a deployment, and again when it has forgotten."""

import logging

from procrastinate import Blueprint, JobContext
from sqlalchemy import select

from app.background import Workplace, outlasting, workplace
from app.deployments.model_server import ModelServerDown, ModelServerRefused, connected, teach, wanted
from app.deployments.models import Deployment
from app.live.announcing import announce
from app.queue import enqueue

blueprint = Blueprint()
log = logging.getLogger(__name__)


@blueprint.task(name="publish", pass_context=True, retry=outlasting(ModelServerDown), lock="model-server")
def publish(context: JobContext, *, line_id: int) -> None:
    """Have the model server serve what the line's aliases point at, then let go of what nothing needs.

    Where the model server stays away for longer than the retries last, `reconcile` sees to it.
    """
    place = workplace(context)
    with place.session_factory.begin() as session:
        want = wanted(session, line_id=line_id)
    try:
        with connected(place.settings) as server:
            teach(server, want)
    except (ModelServerDown, ModelServerRefused):
        _announce(place, [line_id])
        raise
    with place.session_factory.begin() as session:
        announce(session, "line", line_id)
        enqueue(session, "training:release_versions", line_id=line_id)


@blueprint.periodic(cron="* * * * * */15")
@blueprint.task(
    name="reconcile",
    pass_context=True,
    lock="model-server",
    queueing_lock="deployments:reconcile",
    retry=outlasting(),
)
def reconcile(context: JobContext, timestamp: int = 0) -> None:
    """Teach a model server that was restarted everything again; every 15 seconds, and when the worker starts."""
    place = workplace(context)
    with place.session_factory.begin() as session:
        want = wanted(session)
        lines = list(session.scalars(select(Deployment.line_id).where(Deployment.until.is_(None)).distinct()))
    try:
        with connected(place.settings) as server:
            has_changed = teach(server, want)
    except ModelServerDown as error:
        has_changed = True
        log.info("%s Trying again in a moment.", error.message)
    except ModelServerRefused as error:
        has_changed = True
        log.warning("%s Trying again in a moment.", error.message)
    if has_changed:
        _announce(place, lines)


def _announce(place: Workplace, line_ids: list[int]) -> None:
    """Have pages look at what serves, which only the model server knows."""
    with place.session_factory.begin() as session:
        for line_id in line_ids:
            announce(session, "line", line_id)
