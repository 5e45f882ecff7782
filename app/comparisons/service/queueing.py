"""Comparisons made ahead of the annotators, so that nobody waits for a model.

One comparison at a time: choose a prompt, have the model write several samples (no transaction is open
meanwhile), keep those that differ most, store them. Killed anywhere, the next run goes on from what is
stored; two runs at once do no more than one, for what is still wanted is looked at again before storing.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.background import Workplace
from app.campaigns.models import Campaign, CampaignKind
from app.campaigns.service.sources import find_writer
from app.comparisons.models import CampaignQueue, QueueState
from app.comparisons.service.drafting import Draft, drawn_for, rewards_of
from app.comparisons.service.storing import hold_making, set_aside, store_comparison
from app.database import get_row
from app.deployments.model_server import ModelServerDown, ModelServerRefused, load_order
from app.deployments.service import find_reward_model
from app.generation.completions_client import PromptRefused, Sampling
from app.generation.models import Prompt
from app.generation.seeds import draw_seed
from app.generation.uncertain import is_kept_as_before
from app.live.announcing import announce
from app.queue import enqueue
from app.wording import gettext as _
from trainer.contract.server import LoadVersion
from trainer.contract.steps import Step, passing

LONGEST_WAIT = timedelta(seconds=30)


def request_fill(session: Session, *, campaign_id: int, at: datetime | None = None) -> None:
    """Have the worker look whether this campaign needs comparisons; one waiting request is enough.

    One at a time: two would have the model write for the same prompt, and one of them in vain.
    """
    name = f"fill-{campaign_id}"
    enqueue(session, "comparisons:fill_queue", once=name, lock=name, at=at, campaign_id=campaign_id)


# Comparisons that nobody has begun. Counting slots instead would take those that some have judged and others have
# not for a full queue, and whoever is ahead of the others would find nothing. The newest come first: they are the
# ones not begun, so that the count ends early.
# The limit is written out: a plan made for any limit whatever reads the whole queue.
def _ahead(most: int) -> str:
    return f"""
    SELECT count(*) FROM (
      SELECT FROM slots
      WHERE slots.campaign_id = %(id)s AND slots.number = 1
        AND slots.assignment_id IS NULL AND slots.judgment_id IS NULL
        AND NOT EXISTS (SELECT FROM assignments AS begun
                        WHERE begun.comparison_id = slots.comparison_id AND begun.state <> 'expired')
        AND EXISTS (SELECT FROM comparisons JOIN prompts ON prompts.id = comparisons.prompt_id
                    WHERE comparisons.id = slots.comparison_id AND prompts.state <> 'retired')
      ORDER BY slots.priority, slots.comparison_id DESC, slots.number DESC
      LIMIT {int(most)}) AS ahead
    """  # noqa: S608


def is_low(below: int) -> str:
    """SQL for whether fewer than `below` comparisons are ahead in the campaign `id`, and more can be made."""
    return f"""
    CASE WHEN coalesce((SELECT state = 'run_out' FROM campaign_queues WHERE campaign_id = %(id)s), false) THEN false
         WHEN (SELECT alias IS NULL AND pinned_version_id IS NULL FROM campaigns WHERE id = %(id)s) THEN false
         ELSE ({_ahead(below)}) < {int(below)} END
    """  # noqa: S608


def fill_queue(place: Workplace, *, campaign_id: int) -> None:
    """Make comparisons until `queue_target` are ahead or the prompts run out; says on the way how it goes."""
    target = place.settings.queue_target
    with place.session_factory.begin() as session:
        campaign = session.get_one(Campaign, campaign_id)
        if campaign.kind is CampaignKind.DEMONSTRATION and not campaign.begins_with_draft:
            hand_out_prompts(session, campaign_id=campaign_id, now=place.clock())
            return
    while True:
        with place.session_factory.begin() as session:
            draft = next_draft(
                session,
                campaign_id=campaign_id,
                target=target,
                now=place.clock(),
                generation_seed=place.settings.generation_seed,
            )
        if draft is None:
            return
        try:
            drawn = drawn_for(place, draft)
        except (ModelServerDown, ModelServerRefused) as error:
            with place.session_factory.begin() as session:
                wait = timedelta(seconds=error.retry_after_seconds if isinstance(error, ModelServerDown) else 0)
                _stall(session, campaign_id=campaign_id, message=error.message, at_least=wait, now=place.clock())
            return
        except PromptRefused as error:
            with place.session_factory.begin() as session:
                set_aside(
                    session.get_one(Prompt, draft.prompt_id),
                    reason=_("The model refused it: %(message)s", message=error.message),
                )
            continue
        passing(Step.GENERATION_DRAWN)
        rewards = rewards_of(place, draft, drawn)
        with place.session_factory.begin() as session:
            store_comparison(
                session, draft=draft, drawn=drawn, rewards=rewards, campaign_id=campaign_id, now=place.clock()
            )
            passing(Step.GENERATION_STORING)
        passing(Step.GENERATION_STORED)


_PROMPTS_TO_WRITE_FOR = text(
    """
    WITH fresh AS (
      INSERT INTO comparisons (campaign_id, prompt_id, redundancy, created_at)
      SELECT campaigns.id, prompts.id, campaigns.redundancy, :now
      FROM campaigns JOIN prompts ON prompts.campaign_id = campaigns.id AND prompts.state = 'active'
      WHERE campaigns.id = :id AND campaigns.state = 'open' AND NOT campaigns.begins_with_draft
        AND NOT EXISTS (SELECT FROM comparisons AS made WHERE made.prompt_id = prompts.id AND made.state = 'open')
      ORDER BY prompts.id
      RETURNING id, campaign_id, redundancy
    )
    INSERT INTO slots (comparison_id, number, campaign_id)
    SELECT fresh.id, number, fresh.campaign_id FROM fresh CROSS JOIN LATERAL generate_series(1, redundancy) AS number
    RETURNING comparison_id
    """
)


def hand_out_prompts(session: Session, *, campaign_id: int, now: datetime) -> bool:
    """Let the prompts of an open demonstration campaign be written for, those that are not yet; whether there were any.

    Each becomes a comparison of nothing: its slots, leases and judgments keep order here as they do there. Where people
    begin with a draft by the model, it is made like any comparison, of one completion.
    """
    hold_making(session, campaign_id=campaign_id)
    found = session.execute(_PROMPTS_TO_WRITE_FOR, {"id": campaign_id, "now": now}).all()
    if found:
        announce(session, "campaign", campaign_id)
    return bool(found)


# Prompts with the fewest comparisons first; among equals in an order that is mixed, and the same every time.
_NEXT_PROMPT = text(
    """
    SELECT prompts.id, made.number AS made, sum(:per_prompt - made.number) OVER () AS to_make
    FROM prompts CROSS JOIN LATERAL (
      SELECT count(*) AS number FROM comparisons WHERE prompt_id = prompts.id AND state = 'open') AS made
    WHERE prompts.campaign_id = :id AND prompts.state = 'active' AND made.number < :per_prompt
    ORDER BY prompts.failed_draws, made.number, md5(prompts.id::text)
    LIMIT 1
    """
)


def next_draft(
    session: Session, *, campaign_id: int, target: int, now: datetime, generation_seed: int | None = None
) -> Draft | None:
    """What to make next, or None: enough is ready, nothing is left to make, or the campaign hands out nothing."""
    campaign = session.get_one(Campaign, campaign_id)
    writer = find_writer(session, campaign)
    if not campaign.is_open or writer is None:
        return None
    per_prompt = campaign.comparisons_per_prompt
    row = session.execute(_NEXT_PROMPT, {"id": campaign_id, "per_prompt": per_prompt}).one_or_none()
    if row is None:
        _note(session, campaign_id=campaign_id, state=QueueState.RUN_OUT, now=now)
        return None
    enough = get_row(session, _ahead(target), {"id": campaign_id})[0] >= target
    state = QueueState.READY if enough else QueueState.MAKING
    _note(session, campaign_id=campaign_id, state=state, to_make=row.to_make, now=now)
    if enough:
        return None
    prompt = session.get_one(Prompt, row.id)
    seed = None
    if generation_seed is not None:
        seed = draw_seed(
            generation_seed, prompt_id=prompt.id, version_name=writer.name, made=row.made, failed=prompt.failed_draws
        )
    return Draft(
        prompt_id=prompt.id,
        messages=_with_system_prompt(campaign, prompt),
        version_id=writer.id,
        version_name=writer.name,
        endpoint=writer.endpoint,
        sampling=Sampling(
            temperature=campaign.temperature, top_p=campaign.top_p, max_tokens=campaign.max_tokens, seed=seed
        ),
        samples=1 if campaign.begins_with_draft else campaign.samples_drawn,
        count=1 if campaign.begins_with_draft else campaign.completions_per_comparison,
        reward_model=_chooser(session, campaign, prompt),
    )


def _chooser(session: Session, campaign: Campaign, prompt: Prompt) -> LoadVersion | None:
    """The reward model that is to help, where the campaign wants that and this prompt is not left out of it."""
    if not campaign.picks_uncertain or campaign.line_id is None or is_kept_as_before(prompt.text_sha256):
        return None
    version = find_reward_model(session, line_id=campaign.line_id)
    return load_order(version) if version is not None else None


def _with_system_prompt(campaign: Campaign, prompt: Prompt) -> list[dict[str, Any]]:
    if not campaign.system_prompt:
        return prompt.messages
    return [{"role": "system", "content": campaign.system_prompt}, *prompt.messages]


def _note(session: Session, *, campaign_id: int, state: QueueState, now: datetime, to_make: int = 0) -> None:
    row = {"state": state, "message": "", "failures": 0, "to_make": to_make, "updated_at": now}
    statement = insert(CampaignQueue).values(campaign_id=campaign_id, **row)
    session.execute(statement.on_conflict_do_update(index_elements=["campaign_id"], set_=row))
    announce(session, "campaign", campaign_id)


def _stall(session: Session, *, campaign_id: int, message: str, at_least: timedelta, now: datetime) -> None:
    """Say why nothing is made, and try again after a wait that doubles, up to LONGEST_WAIT, or as long as was asked."""
    queue = session.get_one(CampaignQueue, campaign_id)
    queue.state, queue.message, queue.updated_at = QueueState.STALLED, message, now
    queue.failures += 1
    announce(session, "campaign", campaign_id)
    wait = min(LONGEST_WAIT, timedelta(seconds=2 ** min(queue.failures, 10)))
    request_fill(session, campaign_id=campaign_id, at=now + max(at_least, wait))
