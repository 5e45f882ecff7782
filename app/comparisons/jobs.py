"""Background entry points: comparisons made ahead, turned over after a deployment, leases taken back."""

from procrastinate import Blueprint, JobContext
from sqlalchemy import select

from app.background import DATABASE_AWAY, outlasting, workplace
from app.campaigns.models import Campaign, CampaignState
from app.comparisons.service import bulk, queueing, turning_over
from app.comparisons.service.leasing import expire_leases
from app.wording import gettext as _

blueprint = Blueprint()


@blueprint.task(name="fill_queue", pass_context=True, retry=outlasting())
def fill_queue(context: JobContext, *, campaign_id: int) -> None:
    """Make comparisons ahead of a campaign's annotators."""
    queueing.fill_queue(workplace(context), campaign_id=campaign_id)


@blueprint.task(name="turn_over", pass_context=True, retry=outlasting())
def turn_over(context: JobContext, *, line_id: int) -> None:
    """Let comparisons by a line's former version give way to new ones."""
    place = workplace(context)
    with place.session_factory.begin() as session:
        turning_over.turn_over(session, line_id=line_id, now=place.clock())


@blueprint.task(name="carry_out_change", pass_context=True, retry=outlasting())
def carry_out_change(context: JobContext, *, change_id: int) -> None:
    """Do one deed to many, batch by batch; why it broke off is on its page."""
    place = workplace(context)
    try:
        bulk.carry_out(place.session_factory, change_id=change_id, clock=place.clock)
    except DATABASE_AWAY:
        raise
    except Exception:
        reason = _("Something unexpected broke this off; the worker's log says what.")
        with place.session_factory.begin() as session:
            bulk.fail_change(session, change_id=change_id, reason=reason, now=place.clock())
        raise


@blueprint.periodic(cron="* * * * * */20")
@blueprint.task(name="tend", pass_context=True, queueing_lock="comparisons:tend", retry=outlasting())
def tend(context: JobContext, timestamp: int = 0) -> None:
    """Every 20 seconds: take back leases that ran out, and see that no open campaign's queue was forgotten."""
    place = workplace(context)
    with place.session_factory.begin() as session:
        expire_leases(session, now=place.clock())
        for campaign_id in session.scalars(select(Campaign.id).where(Campaign.state == CampaignState.OPEN)):
            queueing.request_fill(session, campaign_id=campaign_id)
