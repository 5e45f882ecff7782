"""What an annotator sees: the comparison at their desk without a trace of its origin, or why there is none.

Templates get the values of this module and no table rows, so that no page can tell which model wrote what.
"""

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign, CampaignState
from app.campaigns.service import current_revision
from app.comparisons.models import CampaignQueue, QueueState
from app.comparisons.service.desk import Question, current_question
from app.comparisons.service.leasing import Lease


@dataclass(frozen=True)
class ShownMessage:
    """One turn of a prompt; `role` is user or assistant."""

    role: str
    text: str


@dataclass(frozen=True)
class BlindComparison:
    """All that a page may know of a comparison: what was asked, and the texts in the order in which they are shown.

    `key` is drawn afresh whenever it is shown: a verdict sent twice with it is recorded once.
    """

    assignment_id: uuid.UUID
    messages: list[ShownMessage]
    completions: list[str]
    question: Question
    key: uuid.UUID = field(default_factory=uuid.uuid4)


class Standing(StrEnum):
    """What the judging panel shows."""

    COMPARISON = "comparison"
    WAITING = "waiting"
    NOTHING_LEFT = "nothing_left"
    DRAFT = "draft"
    PAUSED = "paused"
    CLOSED = "closed"


@dataclass(frozen=True)
class Desk:
    """A person's desk in a campaign, as the judging panel shows it.

    `undoable` is the assignment that Undo brings back; `reason` says why completions are not being made.
    """

    campaign_id: int
    campaign_name: str
    standing: Standing
    comparison: BlindComparison | None
    reason: str
    guidelines: str
    judged: int
    judged_today: int
    undoable: uuid.UUID | None
    undo_key: uuid.UUID = field(default_factory=uuid.uuid4)


_TALLY = text(
    """
    SELECT count(*) FILTER (WHERE state = 'judged') AS judged,
           count(*) FILTER (WHERE state = 'judged' AND closed_at >= :today) AS judged_today,
           (SELECT id FROM assignments
            WHERE campaign_id = :campaign_id AND annotator_id = :annotator_id AND state IN ('judged', 'skipped')
            ORDER BY closed_at DESC, leased_at DESC, id LIMIT 1) AS undoable
    FROM assignments WHERE campaign_id = :campaign_id AND annotator_id = :annotator_id
    """
)


def present_desk(
    session: Session, *, campaign: Campaign, annotator_id: int, lease: Lease | None, now: datetime
) -> Desk:
    """The desk with the leased comparison on it; without one, why there is none."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    person = {"campaign_id": campaign.id, "annotator_id": annotator_id}
    tally = session.execute(_TALLY, {**person, "today": midnight}).one()
    standing, reason = (Standing.COMPARISON, "") if lease is not None else _why_none(session, campaign)
    return Desk(
        campaign_id=campaign.id,
        campaign_name=campaign.name,
        standing=standing,
        comparison=None if lease is None else _blind(session, lease, campaign_id=campaign.id),
        reason=reason,
        guidelines=current_revision(session, campaign.id).guidelines,
        judged=tally.judged,
        judged_today=tally.judged_today,
        undoable=tally.undoable if campaign.is_open else None,
    )


_SHOWN = text(
    """
    SELECT prompts.messages,
           (SELECT array_agg(completions.text ORDER BY places.place)
            FROM unnest(CAST(:shown_order AS bigint[])) WITH ORDINALITY AS places(id, place)
            JOIN completions ON completions.id = places.id) AS completions
    FROM comparisons JOIN prompts ON prompts.id = comparisons.prompt_id
    WHERE comparisons.id = :comparison_id
    """
)


def _blind(session: Session, lease: Lease, *, campaign_id: int) -> BlindComparison:
    asked = {"comparison_id": lease.comparison_id, "shown_order": lease.shown_order}
    row = session.execute(_SHOWN, asked).one()
    return BlindComparison(
        assignment_id=lease.assignment_id,
        messages=shown_messages(row.messages),
        completions=list(row.completions),
        question=current_question(session, campaign_id=campaign_id),
    )


def shown_messages(messages: list[dict[str, Any]]) -> list[ShownMessage]:
    """A prompt as annotators see it: the conversation, without instructions to the model."""
    return [
        ShownMessage(str(message["role"]), str(message["content"]))
        for message in messages
        if message["role"] != "system"
    ]


_SHUT = {
    CampaignState.DRAFT: Standing.DRAFT,
    CampaignState.PAUSED: Standing.PAUSED,
    CampaignState.CLOSED: Standing.CLOSED,
}


def _why_none(session: Session, campaign: Campaign) -> tuple[Standing, str]:
    """Why nothing is on the desk, and what stalls the making of completions."""
    if not campaign.is_open:
        return _SHUT[campaign.state], ""
    queue = session.get(CampaignQueue, campaign.id, populate_existing=True)
    if queue is not None and queue.state is QueueState.STALLED:
        return Standing.WAITING, queue.message
    return (Standing.WAITING if _more_to_come(session, campaign, queue) else Standing.NOTHING_LEFT), ""


def _more_to_come(session: Session, campaign: Campaign, queue: CampaignQueue | None) -> bool:
    """Whether completions are on their way to this person.

    They are not where the queue is full already, of comparisons that only others have not judged.
    """
    generates = campaign.alias is not None or campaign.pinned_version_id is not None
    if not generates or (queue is not None and queue.state is QueueState.RUN_OUT):
        return False
    if queue is not None and queue.state is QueueState.MAKING:
        return True
    return not _has_free_slot(session, campaign.id)


_FREE = text("SELECT 1 FROM slots WHERE campaign_id = :id AND assignment_id IS NULL AND judgment_id IS NULL LIMIT 1")


def _has_free_slot(session: Session, campaign_id: int) -> bool:
    return session.execute(_FREE, {"id": campaign_id}).first() is not None
