"""Comparisons for tests: a prompt, its completions, and the slots that want judgments."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.comparisons.models import Comparison, ComparisonCompletion, Slot
from app.deployments.models import ModelVersion
from app.generation.models import Prompt
from tests.conftest import NOW
from tests.factories.generation import make_completion, make_prompt


def make_comparison(
    session: Session,
    campaign: Campaign,
    *,
    texts: Sequence[str] = ("One.", "Two."),
    redundancy: int = 1,
    prompt: Prompt | None = None,
    version: ModelVersion | None = None,
    priority: float = 0.0,
) -> Comparison:
    """An open comparison of completions with these texts, in this order, all of its slots free.

    The completions are `version`'s, or else of the version that the campaign's line serves.
    """
    prompt = prompt or make_prompt(session, campaign)
    completions = [make_completion(session, prompt, text, version=version) for text in texts]
    comparison = Comparison(
        campaign_id=campaign.id,
        prompt_id=prompt.id,
        priority=priority,
        redundancy=redundancy,
        model_version_id=completions[0].model_version_id,
        created_at=NOW,
    )
    comparison.members = [
        ComparisonCompletion(completion_id=completion.id, position=position)
        for position, completion in enumerate(completions)
    ]
    comparison.slots = [
        Slot(number=number, campaign_id=campaign.id, priority=priority) for number in range(1, redundancy + 1)
    ]
    session.add(comparison)
    session.flush()
    session.refresh(comparison)
    return comparison
