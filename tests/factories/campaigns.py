"""Campaigns and enrolments for tests."""

from itertools import count
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.campaigns.models import Access, Campaign, CampaignKind, CampaignRevision, CampaignState, Enrolment
from app.deployments.models import Alias, ModelLine
from tests.conftest import NOW
from tests.factories.deployments import make_line

_numbers = count(1)


def make_campaign(
    session: Session, *, line: ModelLine | None = None, state: CampaignState = CampaignState.OPEN, **given: Any
) -> Campaign:
    """An open comparison campaign on a line's current version, with its first revision."""
    line = line or make_line(session)
    values: dict[str, Any] = {"name": f"Campaign {next(_numbers)}", "redundancy": 1, **given}
    campaign = Campaign(
        kind=CampaignKind.COMPARISON, state=state, line_id=line.id, alias=Alias.CURRENT, created_at=NOW, **values
    )
    session.add(campaign)
    session.flush()
    session.add(CampaignRevision(campaign_id=campaign.id, number=1, guidelines="Prefer what helps.", created_at=NOW))
    session.flush()
    session.refresh(campaign)
    return campaign


def enrol(
    session: Session, user: User, campaign: Campaign, *, judges: bool = True, access: Access = Access.NONE
) -> Enrolment:
    """Give a person a part in a campaign."""
    enrolment = Enrolment(campaign_id=campaign.id, user_id=user.id, judges=judges, access=access, created_at=NOW)
    session.add(enrolment)
    session.flush()
    return enrolment
