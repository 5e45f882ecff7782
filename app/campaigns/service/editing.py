"""Writing a campaign and changing it: the plan in place, the question in numbered revisions."""

from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.audit import record_deed
from app.campaigns.access import ceiling
from app.campaigns.guidance import MOST_EXAMPLES, Example
from app.campaigns.models import Campaign, CampaignKind, CampaignRevision, CampaignState, Enrolment
from app.campaigns.service.leaving import warn_anew
from app.deployments.models import Alias, ModelLine, ModelVersion
from app.errors import Conflict, Invalid
from app.queue import enqueue
from app.wording import gettext as _

LONGEST_NAME = 120
LONGEST_TEXT = 50_000
"""Characters of guidelines, and of a system prompt."""


@dataclass(frozen=True)
class Question:
    """What annotators are told and asked; a change of it makes a new revision.

    `criteria` are judged beside the overall verdict: [{name, help}]. `scales` says what else is asked and how.
    `examples` go with the guidelines: [{prompt, good, bad, why}], none where there are none.
    """

    guidelines: str = ""
    examples: list[dict[str, Any]] | None = None
    ties_allowed: bool = True
    all_bad_allowed: bool = True
    criteria: list[dict[str, Any]] = field(default_factory=list)
    scales: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CampaignPlan:
    """How a campaign's completions are drawn and how often each comparison is judged.

    A model writes where `line_id` goes with `alias` (follow it) or `pinned_version_id` (stay with it); with neither,
    completions are imported only. Changes hold for what is drawn from then on.
    """

    name: str
    line_id: int | None = None
    alias: Alias | None = None
    pinned_version_id: int | None = None
    comparisons_per_prompt: int = 1
    redundancy: int = 1
    completions_per_comparison: int = 2
    samples_drawn: int = 4
    turns_over: bool = True
    system_prompt: str = ""
    temperature: float = 0.9
    top_p: float = 0.95
    max_tokens: int = 256
    editable_days: int = 7
    content_warning: str = ""
    begins_with_draft: bool = False
    picks_uncertain: bool = False


def create_campaign(
    session: Session,
    *,
    plan: CampaignPlan,
    question: Question,
    by_id: int | None,
    now: datetime,
    kind: CampaignKind = CampaignKind.COMPARISON,
) -> Campaign:
    """A campaign in draft with its first revision; whoever creates it manages it and judges in it.

    `by_id` null: the system itself, and nobody is enrolled. Raises Invalid for settings that cannot be.
    """
    plan = _checked_plan(session, plan, kind=kind)
    campaign = Campaign(kind=kind, state=CampaignState.DRAFT, created_by_id=by_id, created_at=now, **_columns(plan))
    session.add(campaign)
    session.flush()
    _add_revision(session, campaign_id=campaign.id, number=1, question=question, by_id=by_id, now=now)
    if by_id is not None:
        _enrol_creator(session, campaign_id=campaign.id, user_id=by_id, now=now)
    session.refresh(campaign)
    record_deed(
        session,
        action="campaign.created",
        subject=campaign,
        subject_id=campaign.id,
        actor_id=by_id,
        now=now,
        name=campaign.name,
    )
    return campaign


def edit_campaign(
    session: Session, *, campaign: Campaign, plan: CampaignPlan, by_id: int | None, now: datetime
) -> bool:
    """Change a campaign's plan; returns whether anything changed.

    Raises Conflict for a closed campaign, and for another line once the campaign has been opened: its judgments
    belong to the line they were collected for.
    """
    plan = _checked_plan(session, plan, kind=campaign.kind)
    if campaign.state is CampaignState.CLOSED:
        raise Conflict(_("This campaign is closed. Create a new one to go on asking."))
    if campaign.opened_at is not None and campaign.line_id is not None and plan.line_id != campaign.line_id:
        raise Conflict(
            _(
                "This campaign has been opened, and its judgments belong to its model line. Choose a "
                "model of the same line, or create a new campaign for the other one."
            )
        )
    changes = {name: value for name, value in _columns(plan).items() if getattr(campaign, name) != value}
    for name, value in changes.items():
        setattr(campaign, name, value)
    session.flush()
    if not changes:
        return False
    session.refresh(campaign)
    if changes.get("content_warning"):
        warn_anew(session, campaign=campaign)
    record_deed(
        session,
        action="campaign.edited",
        subject=campaign,
        subject_id=campaign.id,
        actor_id=by_id,
        now=now,
        changed=changes,
    )
    _draw_anew(session, campaign, changed=set(changes))
    return True


def revise_campaign(
    session: Session, *, campaign: Campaign, question: Question, by_id: int | None, now: datetime
) -> CampaignRevision:
    """The revision that asks this: the current one where nothing changed, else a new one with the next number."""
    session.execute(select(Campaign.id).where(Campaign.id == campaign.id).with_for_update())
    current = current_revision(session, campaign.id)
    if _question_of(current) == _tidied(question):
        return current
    if campaign.state is CampaignState.CLOSED:
        raise Conflict(_("This campaign is closed. Create a new one to go on asking."))
    revision = _add_revision(
        session, campaign_id=campaign.id, number=current.number + 1, question=question, by_id=by_id, now=now
    )
    session.expire(campaign, ["revisions"])
    record_deed(
        session,
        action="campaign.revised",
        subject=campaign,
        subject_id=campaign.id,
        actor_id=by_id,
        now=now,
        number=revision.number,
    )
    return revision


def current_revision(session: Session, campaign_id: int) -> CampaignRevision:
    """What annotators of this campaign are told and asked now."""
    newest = (
        select(CampaignRevision)
        .where(CampaignRevision.campaign_id == campaign_id)
        .order_by(CampaignRevision.number.desc())
        .limit(1)
    )
    return session.scalars(newest).one()


def _checked_plan(session: Session, plan: CampaignPlan, *, kind: CampaignKind) -> CampaignPlan:
    """The plan, tidied; raises Invalid, in words, for what the table would refuse."""
    plan = _plan_of_writing(plan) if kind is CampaignKind.DEMONSTRATION else replace(plan, begins_with_draft=False)
    plan = replace(
        plan, name=" ".join(plan.name.split()), system_prompt=plan.system_prompt.strip(), content_warning=_warning(plan)
    )
    if not plan.name or len(plan.name) > LONGEST_NAME:
        raise Invalid(_("Give the campaign a name of at most %(longest_name)s characters.", longest_name=LONGEST_NAME))
    if plan.samples_drawn < plan.completions_per_comparison:
        raise Invalid(
            _(
                "Draw at least %(completions_per_comparison)s samples: that many are shown side by side.",
                completions_per_comparison=plan.completions_per_comparison,
            )
        )
    if plan.alias is not None and plan.pinned_version_id is not None:
        raise Invalid(_("Follow an alias or pin a version, not both."))
    if plan.line_id is None and (plan.alias is not None or plan.pinned_version_id is not None):
        raise Invalid(_("Name the line that the model belongs to."))
    _require_model(session, plan)
    return plan


def _plan_of_writing(plan: CampaignPlan) -> CampaignPlan:
    """People write, each of them once for a prompt; the model writes nothing, unless it is what they begin with."""
    plan = replace(plan, comparisons_per_prompt=1, picks_uncertain=False)
    if not plan.begins_with_draft:
        return replace(plan, alias=None, pinned_version_id=None)
    if plan.alias is None and plan.pinned_version_id is None:
        raise Invalid(_("Choose the model whose draft people begin with, or have them begin with nothing."))
    return plan


def _warning(plan: CampaignPlan) -> str:
    """The warning as it is kept; browsers send line ends as CR LF, which must not make another one."""
    return plan.content_warning.replace("\r\n", "\n").strip()


def _require_model(session: Session, plan: CampaignPlan) -> None:
    if plan.line_id is not None and session.get(ModelLine, plan.line_id) is None:
        raise Invalid(_("There is no such model line any more. Choose another."))
    if plan.pinned_version_id is not None:
        version = session.get(ModelVersion, plan.pinned_version_id)
        if version is None or (version.line_id != plan.line_id and not version.is_elsewhere):
            raise Invalid(_("There is no such version in this line. Choose another."))
        if version.is_reward_model:
            raise Invalid(_("%(name)s is a reward model, which writes nothing. Choose another.", name=version.name))


def _columns(value: CampaignPlan | Question) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _draw_anew(session: Session, campaign: Campaign, *, changed: set[str]) -> None:
    """Let generation catch up with a changed plan: another model's completions, or more of them."""
    if not campaign.is_open:
        return
    if changed & {"alias", "pinned_version_id", "line_id"} and campaign.line_id is not None:
        enqueue(session, "comparisons:turn_over", once=f"turn-over-{campaign.line_id}", line_id=campaign.line_id)
    name = f"fill-{campaign.id}"
    enqueue(session, "comparisons:fill_queue", once=name, lock=name, campaign_id=campaign.id)


def _enrol_creator(session: Session, *, campaign_id: int, user_id: int, now: datetime) -> None:
    access = ceiling(session.get_one(User, user_id).role)
    session.add(Enrolment(campaign_id=campaign_id, user_id=user_id, judges=True, access=access, created_at=now))
    session.flush()


def _add_revision(
    session: Session, *, campaign_id: int, number: int, question: Question, by_id: int | None, now: datetime
) -> CampaignRevision:
    columns = _columns(_tidied(question))
    revision = CampaignRevision(campaign_id=campaign_id, number=number, created_at=now, created_by_id=by_id, **columns)
    session.add(revision)
    session.flush()
    return revision


def _question_of(revision: CampaignRevision) -> Question:
    return Question(**{item.name: getattr(revision, item.name) for item in fields(Question)})


def _tidied(question: Question) -> Question:
    """The question as it is kept; browsers send line ends as CR LF, which must not make a new revision."""
    guidelines = question.guidelines.replace("\r\n", "\n").strip()
    if len(guidelines) > LONGEST_TEXT:
        raise Invalid(_("Keep the guidelines to %(longest_text)s characters.", longest_text=f"{LONGEST_TEXT:,}"))
    return replace(question, guidelines=guidelines, examples=_tidied_examples(question.examples))


def _tidied_examples(examples: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    kept = [
        Example.model_validate({name: str(text).replace("\r\n", "\n").strip() for name, text in example.items()})
        for example in examples or []
    ]
    if len(kept) > MOST_EXAMPLES:
        raise Invalid(_("At most %(most)s examples: more are not read.", most=MOST_EXAMPLES))
    return [example.model_dump() for example in kept] or None
