"""After a deployment: what nobody has begun to judge gives way to comparisons by the new version."""

from datetime import datetime

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign, CampaignState
from app.campaigns.service.sources import find_writer
from app.comparisons.models import Comparison, ComparisonState
from app.comparisons.service.queueing import request_fill
from app.generation.models import Prompt, PromptState
from app.live.announcing import announce
from trainer.contract.steps import Step, passing

# A comparison goes only when it and all its slots, still free, are locked by us: nobody can be leasing it at this
# moment, and no late verdict on it is under way. What others hold is left, and nothing is waited for.
_DROPPABLE = text(
    """
    WITH held AS (
      SELECT slots.comparison_id FROM slots JOIN comparisons ON comparisons.id = slots.comparison_id
      WHERE slots.campaign_id = :campaign_id AND slots.assignment_id IS NULL AND slots.judgment_id IS NULL
        AND comparisons.state = 'open' AND comparisons.kind = 'ordinary'
        AND comparisons.model_version_id <> :version_id
      FOR NO KEY UPDATE OF comparisons SKIP LOCKED
      FOR UPDATE OF slots SKIP LOCKED
    )
    SELECT held.comparison_id FROM held
    GROUP BY held.comparison_id
    HAVING count(*) = (SELECT redundancy FROM comparisons WHERE comparisons.id = held.comparison_id)
       AND NOT EXISTS (SELECT FROM judgments WHERE judgments.comparison_id = held.comparison_id)
    """
)


def turn_over(session: Session, *, line_id: int, now: datetime) -> int:
    """Drop what the line's former version wrote and nobody judged or holds, and ask for new; returns how many.

    Campaigns that do not turn over keep theirs until they are judged.
    """
    dropped = 0
    campaigns = select(Campaign).where(Campaign.line_id == line_id, Campaign.state != CampaignState.CLOSED)
    for campaign in session.scalars(campaigns):
        writer = find_writer(session, campaign)
        if writer is None:
            continue
        _forgive_prompts(session, campaign_id=campaign.id)
        if campaign.turns_over:
            dropped += _drop_older(session, campaign_id=campaign.id, version_id=writer.id, now=now)
        request_fill(session, campaign_id=campaign.id)
        announce(session, "campaign", campaign.id)
    return dropped


def _drop_older(session: Session, *, campaign_id: int, version_id: int, now: datetime) -> int:
    given = {"campaign_id": campaign_id, "version_id": version_id}
    ids = list(session.scalars(_DROPPABLE, given))
    if ids:
        session.execute(text("DELETE FROM slots WHERE comparison_id = ANY(:ids)"), {"ids": ids})
        drop = update(Comparison).where(Comparison.id.in_(ids))
        session.execute(drop.values(state=ComparisonState.DROPPED, dropped_at=now))
        passing(Step.DEPLOYMENT_TURNING_OVER)
    return len(ids)


def _forgive_prompts(session: Session, *, campaign_id: int) -> None:
    """Another version may manage what the one before did not: failed draws are counted anew."""
    active = Prompt.state == PromptState.ACTIVE
    session.execute(update(Prompt).where(Prompt.campaign_id == campaign_id, active).values(failed_draws=0))
