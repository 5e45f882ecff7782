"""Storing a comparison: which of the samples are shown, with the slots for those who will judge them.

What is still wanted is looked at again before anything is kept, for a model took its time over the samples.
"""

from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.campaigns.service.sources import find_writer
from app.comparisons.models import Comparison, ComparisonCompletion, ComparisonState, Picking, Slot
from app.comparisons.service.drafting import Draft
from app.generation.completions_client import Drawn
from app.generation.distinct import most_distinct
from app.generation.models import Completion, CompletionSource, Prompt, PromptState
from app.generation.normalising import text_sha256
from app.generation.uncertain import most_uncertain
from app.live.announcing import announce
from app.wording import gettext as _

TRIES = 3
"""Draws of one prompt without enough distinct samples after which it is set aside."""
_MAKING = 0x6D61_6B65
"""First half of the advisory locks under which one comparison of a campaign is stored at a time."""


def hold_making(session: Session, *, campaign_id: int) -> None:
    """Wait until nobody else stores a comparison of this campaign, and keep others waiting until COMMIT."""
    session.execute(text("SELECT pg_advisory_xact_lock(:making, :id)"), {"making": _MAKING, "id": campaign_id})


def store_comparison(
    session: Session,
    *,
    draft: Draft,
    drawn: list[Drawn],
    campaign_id: int,
    now: datetime,
    rewards: list[float | None] | None = None,
) -> Comparison | None:
    """Keep samples as a comparison with its slots: those that differ most or, where they have rewards, those whose
    rewards lie closest together. None where too few differ.

    Also None where another run made this prompt's last comparison meanwhile, or a deployment came between.
    """
    hold_making(session, campaign_id=campaign_id)
    campaign = session.get_one(Campaign, campaign_id)
    prompt = session.get_one(Prompt, draft.prompt_id)
    if prompt.state is not PromptState.ACTIVE or not _still_wanted(session, campaign, draft):
        return None
    texts = [sample.text for sample in drawn]
    kept, picked = most_distinct(texts, draft.count), Picking.DISTINCT
    if rewards is not None and (uncertain := most_uncertain(texts, rewards, draft.count)) is not None:
        kept, picked = uncertain, Picking.UNCERTAIN
    if kept is None:
        _note_failed_draw(prompt, draft)
        return None
    prompt.failed_draws = 0
    completions = [_completion(draft, drawn[index], now=now) for index in kept]
    comparison = Comparison(
        campaign_id=campaign_id,
        prompt_id=draft.prompt_id,
        redundancy=campaign.redundancy,
        model_version_id=draft.version_id,
        picked=picked.value,
        created_at=now,
    )
    session.add_all([*completions, comparison])
    session.flush()
    _add_members_and_slots(session, comparison, completions)
    announce(session, "campaign", campaign_id)
    return comparison


def _still_wanted(session: Session, campaign: Campaign, draft: Draft) -> bool:
    writer = find_writer(session, campaign)
    made = session.scalars(
        select(Comparison.id).where(Comparison.prompt_id == draft.prompt_id, Comparison.state == ComparisonState.OPEN)
    ).all()
    return writer is not None and writer.id == draft.version_id and len(made) < campaign.comparisons_per_prompt


def _add_members_and_slots(session: Session, comparison: Comparison, completions: list[Completion]) -> None:
    session.add_all(
        ComparisonCompletion(comparison_id=comparison.id, completion_id=completion.id, position=position)
        for position, completion in enumerate(completions)
    )
    session.add_all(
        Slot(comparison_id=comparison.id, number=number, campaign_id=comparison.campaign_id, priority=0.0)
        for number in range(1, comparison.redundancy + 1)
    )
    session.flush()


def _completion(draft: Draft, sample: Drawn, *, now: datetime) -> Completion:
    return Completion(
        prompt_id=draft.prompt_id,
        source=CompletionSource.MODEL,
        text=sample.text,
        normalised_sha256=text_sha256(sample.text),
        model_version_id=draft.version_id,
        temperature=draft.sampling.temperature,
        top_p=draft.sampling.top_p,
        max_tokens=draft.sampling.max_tokens,
        seed=sample.seed,
        finish_reason=sample.finish_reason,
        completion_tokens=sample.completion_tokens,
        latency_ms=sample.latency_ms,
        chat_template_sha256=sample.chat_template_sha256,
        tokenizer_sha256=sample.tokenizer_sha256,
        token_ids=sample.token_ids,
        created_at=now,
    )


def _note_failed_draw(prompt: Prompt, draft: Draft) -> None:
    prompt.failed_draws += 1
    if prompt.failed_draws >= TRIES:
        set_aside(
            prompt,
            reason=_(
                "%(tries)s draws of %(samples)s samples each gave fewer than %(count)s that differ. "
                "Raise the temperature, draw more samples, or retire it.",
                tries=TRIES,
                samples=draft.samples,
                count=draft.count,
            ),
        )


def set_aside(prompt: Prompt, *, reason: str) -> None:
    prompt.state = PromptState.SET_ASIDE
    prompt.state_reason = reason[:2000]
