"""The life of a campaign: draft, open, paused, closed; and why one cannot be opened yet."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.campaigns.models import Campaign, CampaignKind, CampaignState
from app.campaigns.service.progress import campaign_progress
from app.campaigns.service.sources import find_writer
from app.errors import Conflict
from app.live.announcing import announce
from app.queue import enqueue
from app.wording import gettext as _


def obstacles_to_opening(session: Session, campaign: Campaign) -> list[str]:
    """Why this campaign cannot be opened yet, each with what to do; empty where it can."""
    if campaign.state is CampaignState.CLOSED:
        return [_("This campaign is closed. Create a new one to go on asking.")]
    progress = campaign_progress(session, campaign.id)
    if progress.ready > 0:
        return []
    obstacles = []
    if campaign.kind is CampaignKind.DEMONSTRATION and not campaign.begins_with_draft:
        return [] if progress.prompts else [_("It has no active prompts. Add or import some.")]
    if campaign.alias is None and campaign.pinned_version_id is None:
        obstacles.append(_("No model writes its completions. Choose one under Settings, or import comparisons."))
    elif find_writer(session, campaign) is None:
        obstacles.append(
            _("No version of its model is deployed as “%(alias)s” yet. Deploy one under Models.", alias=campaign.alias)
        )
    if progress.prompts == 0:
        obstacles.append(_("It has no active prompts. Add or import some."))
    return obstacles


def open_campaign(session: Session, *, campaign: Campaign, by_id: int | None, now: datetime) -> None:
    """Let annotators in, and have comparisons made ahead of them. Opening an open campaign does nothing.

    Raises Conflict with every obstacle, where there is one.
    """
    _lock(session, campaign)
    if campaign.is_open:
        return
    if obstacles := obstacles_to_opening(session, campaign):
        raise Conflict(_("The campaign cannot be opened yet.\n") + "\n".join(obstacles))
    before, campaign.state = campaign.state, CampaignState.OPEN
    if campaign.opened_at is None:
        campaign.opened_at = now
    _record(session, campaign, "resumed" if before is CampaignState.PAUSED else "opened", by_id=by_id, now=now)
    name = f"fill-{campaign.id}"
    enqueue(session, "comparisons:fill_queue", once=name, lock=name, campaign_id=campaign.id)


def resume_campaign(session: Session, *, campaign: Campaign, by_id: int | None, now: datetime) -> None:
    """Open a paused campaign again; the same conditions hold as for the first time."""
    open_campaign(session, campaign=campaign, by_id=by_id, now=now)


def pause_campaign(session: Session, *, campaign: Campaign, by_id: int | None, now: datetime) -> None:
    """Hand out nothing more until it is resumed. What is on somebody's screen may still be judged."""
    _lock(session, campaign)
    if campaign.state is CampaignState.PAUSED:
        return
    if not campaign.is_open:
        raise Conflict(_("Only an open campaign can be paused."))
    campaign.state = CampaignState.PAUSED
    _record(session, campaign, "paused", by_id=by_id, now=now)


def close_campaign(session: Session, *, campaign: Campaign, by_id: int | None, now: datetime) -> None:
    """End a campaign for good. Its prompts, judgments and snapshots stay."""
    _lock(session, campaign)
    if campaign.state is CampaignState.CLOSED:
        return
    campaign.state, campaign.closed_at = CampaignState.CLOSED, now
    _record(session, campaign, "closed", by_id=by_id, now=now)


def _lock(session: Session, campaign: Campaign) -> None:
    """Let two changes of state happen one after the other, the second seeing the first."""
    session.flush()
    session.execute(select(Campaign.id).where(Campaign.id == campaign.id).with_for_update())
    session.refresh(campaign, ["state", "opened_at", "closed_at"])


def _record(session: Session, campaign: Campaign, verb: str, *, by_id: int | None, now: datetime) -> None:
    session.flush()
    announce(session, "campaign", campaign.id)
    record_deed(session, action=f"campaign.{verb}", subject=campaign, subject_id=campaign.id, actor_id=by_id, now=now)
