"""Background entry points: tell the model server after a deployment, and again when it has forgotten."""

import logging

from procrastinate import Blueprint, JobContext, RetryStrategy

from app.background import workplace
from app.deployments.model_server import ModelServerDown, connected, teach, wanted
from app.queue import enqueue

blueprint = Blueprint()
log = logging.getLogger(__name__)

PATIENT = RetryStrategy(max_attempts=10, linear_wait=2, retry_exceptions={ModelServerDown})
"""Waits 2, 4, 6 ... seconds while the model server is down, a minute and a half in all; then `reconcile` sees to it.

Short, since a waiting retry holds back whatever comes after it under the same lock.
"""


@blueprint.task(name="publish", pass_context=True, retry=PATIENT, lock="model-server")
def publish(context: JobContext, *, line_id: int) -> None:
    """Have the model server serve what the line's aliases point at, then let go of what nothing needs."""
    place = workplace(context)
    with place.session_factory.begin() as session:
        want = wanted(session, line_id=line_id)
    with connected(place.settings) as server:
        teach(server, want)
    with place.session_factory.begin() as session:
        enqueue(session, "training:release_versions", line_id=line_id)


@blueprint.periodic(cron="* * * * * */15")
@blueprint.task(name="reconcile", pass_context=True, lock="model-server", queueing_lock="deployments:reconcile")
def reconcile(context: JobContext, timestamp: int = 0) -> None:
    """Teach a model server that was restarted everything again; every 15 seconds, and when the worker starts."""
    place = workplace(context)
    with place.session_factory.begin() as session:
        want = wanted(session)
    try:
        with connected(place.settings) as server:
            teach(server, want)
    except ModelServerDown as error:
        log.info("%s Trying again in a moment.", error.message)
