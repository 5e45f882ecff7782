"""A campaign's warning of what annotators will read, and their leaving it by themselves, and coming back."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.campaigns.access import find_enrolment
from app.campaigns.models import Campaign, CampaignState, Enrolment
from app.errors import Conflict
from app.live.announcing import announce
from app.wording import gettext as _


def awaits_warning(session: Session, *, campaign: Campaign, user_id: int) -> bool:
    """Whether a person has yet to read what the campaign warns of before they judge."""
    if not campaign.content_warning:
        return False
    enrolment = find_enrolment(session, campaign_id=campaign.id, user_id=user_id)
    return enrolment is not None and enrolment.warned_at is None


def go_on(session: Session, *, campaign: Campaign, user_id: int, now: datetime) -> None:
    """They have read the warning, and judge."""
    enrolment = find_enrolment(session, campaign_id=campaign.id, user_id=user_id)
    if enrolment is not None and enrolment.warned_at is None:
        enrolment.warned_at = now
        session.flush()


def leave(session: Session, *, campaign: Campaign, user_id: int, now: datetime) -> None:
    """End one's own judging in a campaign; what one judged stays, and so does what else one may there."""
    enrolment = find_enrolment(session, campaign_id=campaign.id, user_id=user_id)
    if enrolment is None or not enrolment.judges:
        return
    enrolment.judges, enrolment.left_at, enrolment.warned_at = False, now, None
    _changed(session, enrolment, "left", now=now)


def come_back(session: Session, *, campaign: Campaign, user_id: int, now: datetime) -> None:
    """Judge again where one left by oneself. Raises Conflict where the campaign is over."""
    enrolment = find_enrolment(session, campaign_id=campaign.id, user_id=user_id)
    if enrolment is None or enrolment.judges or enrolment.left_at is None:
        return
    if campaign.state is CampaignState.CLOSED:
        raise Conflict(_("This campaign is closed; nothing is judged there any more."))
    enrolment.judges, enrolment.left_at = True, None
    _changed(session, enrolment, "came_back", now=now)


def left_campaigns(session: Session, *, user_id: int) -> list[Campaign]:
    """Where a person left by themselves and could come back, the newest first."""
    query = (
        select(Campaign)
        .join(Enrolment)
        .where(
            Enrolment.user_id == user_id,
            Enrolment.left_at.is_not(None),
            Enrolment.judges.is_(False),
            Campaign.state != CampaignState.CLOSED,
        )
        .order_by(Campaign.id.desc())
    )
    return list(session.scalars(query))


def warn_anew(session: Session, *, campaign: Campaign) -> None:
    """The warning says something else: everybody reads it again."""
    session.execute(
        update(Enrolment)
        .where(Enrolment.campaign_id == campaign.id, Enrolment.warned_at.is_not(None))
        .values(warned_at=None)
    )


def _changed(session: Session, enrolment: Enrolment, verb: str, *, now: datetime) -> None:
    session.flush()
    announce(session, "person", enrolment.user_id)
    record_deed(
        session,
        action=f"campaign.person_{verb}",
        subject="Campaign",
        subject_id=enrolment.campaign_id,
        actor_id=enrolment.user_id,
        now=now,
        user_id=enrolment.user_id,
    )
