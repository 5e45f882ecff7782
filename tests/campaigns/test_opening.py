"""Opening, pausing, resuming and closing a campaign, and why one cannot be opened."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit import AuditEntry
from app.campaigns.models import CampaignState
from app.campaigns.service import close_campaign, obstacles_to_opening, open_campaign, pause_campaign, resume_campaign
from app.errors import Conflict
from app.generation.models import PromptState
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.deployments import make_line
from tests.factories.generation import make_prompt
from tests.queued import queued


def test_opening_a_campaign_has_its_queue_filled_once(session: Session) -> None:
    campaign = make_campaign(session, state=CampaignState.DRAFT)
    make_prompt(session, campaign)
    open_campaign(session, campaign=campaign, by_id=None, now=NOW)
    open_campaign(session, campaign=campaign, by_id=None, now=NOW)
    assert (campaign.state, campaign.opened_at) == (CampaignState.OPEN, NOW)
    assert queued(session) == [("comparisons:fill_queue", {"campaign_id": campaign.id})]
    assert session.scalars(select(AuditEntry.action)).all() == ["campaign.opened"]


def test_a_campaign_without_model_or_prompts_says_both(session: Session) -> None:
    campaign = make_campaign(session, state=CampaignState.DRAFT)
    campaign.alias = None
    make_prompt(session, campaign, state=PromptState.RETIRED)
    with pytest.raises(Conflict) as refused:
        open_campaign(session, campaign=campaign, by_id=None, now=NOW)
    assert "No model writes its completions" in refused.value.message
    assert "no active prompts" in refused.value.message
    assert campaign.state is CampaignState.DRAFT


def test_a_campaign_that_follows_an_alias_nobody_deployed_says_so(session: Session) -> None:
    campaign = make_campaign(session, line=make_line(session, deployed=False), state=CampaignState.DRAFT)
    make_prompt(session, campaign)
    assert obstacles_to_opening(session, campaign) == [
        "No version of its model is deployed as “current” yet. Deploy one under Models."
    ]


def test_a_paused_campaign_is_resumed_and_keeps_when_it_was_first_opened(session: Session) -> None:
    campaign = make_campaign(session, opened_at=NOW)
    make_prompt(session, campaign)
    pause_campaign(session, campaign=campaign, by_id=None, now=NOW)
    assert campaign.state is CampaignState.PAUSED
    resume_campaign(session, campaign=campaign, by_id=None, now=NOW.replace(hour=13))
    assert (campaign.state, campaign.opened_at) == (CampaignState.OPEN, NOW)
    assert session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all() == [
        "campaign.paused",
        "campaign.resumed",
    ]


def test_a_draft_cannot_be_paused(session: Session) -> None:
    campaign = make_campaign(session, state=CampaignState.DRAFT)
    with pytest.raises(Conflict, match="Only an open campaign"):
        pause_campaign(session, campaign=campaign, by_id=None, now=NOW)


def test_a_closed_campaign_stays_closed(session: Session) -> None:
    campaign = make_campaign(session)
    make_prompt(session, campaign)
    close_campaign(session, campaign=campaign, by_id=None, now=NOW)
    assert (campaign.state, campaign.closed_at) == (CampaignState.CLOSED, NOW)
    with pytest.raises(Conflict, match="closed"):
        open_campaign(session, campaign=campaign, by_id=None, now=NOW)
