"""Background entry points of operation: the hourly clean-up."""

import logging

from procrastinate import Blueprint, JobContext

from app.background import outlasting, workplace
from app.datasets.service.forgetting import finish_forgetting
from app.operation.cleaning import leftovers, remove, remove_rows

blueprint = Blueprint()
log = logging.getLogger(__name__)


@blueprint.periodic(cron="17 * * * *")
@blueprint.task(
    name="clean", pass_context=True, lock="operation:clean", queueing_lock="operation:clean", retry=outlasting()
)
def clean(context: JobContext, timestamp: int = 0) -> None:
    """Every hour: delete what nobody needs any more, and finish what forgetting somebody left."""
    place = workplace(context)
    now = place.clock()
    with place.session_factory.begin() as session:
        finish_forgetting(session, now=now)
        remove_rows(session, now=now)
    with place.session_factory.begin() as session:
        found = leftovers(session, place.settings, now=now)
    if found:
        freed = remove(found)
        log.info("Cleaned up: %s files and folders, %.1f MB", len(found), freed / 1e6)
