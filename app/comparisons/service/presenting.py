"""What an annotator sees: the comparison at their desk without a trace of its origin, or why there is none.

Templates get the values of this module and no table rows, so that no page can tell which model wrote what.
"""

import uuid
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy.orm import Session

from app.campaigns.asking import asked_by
from app.campaigns.models import Campaign, CampaignState
from app.comparisons.models import CampaignQueue, QueueState
from app.comparisons.service.desk import QUESTION, Question, question_of
from app.comparisons.service.leasing import Lease
from app.comparisons.service.queueing import is_low
from app.database import get_row

MOST_LEFT = 1000
"""What is left is counted up to here; more is only called more."""


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

    @property
    def shape(self) -> str:
        """What guidelines and keys depend on: they are the same for comparisons of one shape."""
        return f"{self.question.number}-{len(self.completions)}"

    @property
    def asks_beside(self) -> bool:
        """Whether anything is asked beside the verdict on this one."""
        return self.question.asked.beside


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

    `undoable` is the assignment that Undo brings back; `reason` says why completions are not being made; `left`
    counts what there is still to judge for this person, and is as large as MOST_LEFT where it may be more.
    """

    campaign_id: int
    campaign_name: str
    standing: Standing
    comparison: BlindComparison | None
    reason: str
    revision_id: int
    is_guided: bool
    """Whether annotators are told anything, in guidelines or by examples."""
    judged_today: int
    day: date
    left: int
    undoable: uuid.UUID | None
    is_low: bool = False
    """Whether too few comparisons are ahead, and more can be made."""
    correctable: uuid.UUID | None = None
    """The assignment judged last, where the campaign has people write a better one."""
    undo_key: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def is_left_exact(self) -> bool:
        """Whether `left` is all there is, rather than as far as was counted."""
        return self.left < MOST_LEFT


@cache
def _desk(low_below: int) -> str:
    return f"""
    SELECT campaigns.id, campaigns.name, campaigns.state, question.*, prompts.messages,
           (SELECT array_agg(completions.text ORDER BY places.place)
            FROM unnest(CAST(%(shown_order)s AS bigint[])) WITH ORDINALITY AS places(id, place)
            JOIN completions ON completions.id = places.id) AS completions,
           coalesce(CAST(%(judged_today)s AS bigint), (
             SELECT count(*) FROM assignments
             WHERE campaign_id = %(id)s AND annotator_id = %(annotator_id)s AND closed_at >= %(today)s
               AND state = 'judged')) AS judged_today,
           last.id AS undoable, last.state = 'judged' AS undoes_a_judgment,
           {is_low(low_below)} AS is_low
    FROM campaigns CROSS JOIN LATERAL ({QUESTION}) AS question
    LEFT JOIN LATERAL (
      SELECT id, state FROM assignments
      WHERE campaign_id = %(id)s AND annotator_id = %(annotator_id)s AND state IN ('judged', 'skipped')
        AND closed_at IS NOT NULL
      ORDER BY closed_at DESC, leased_at DESC, id LIMIT 1) AS last ON true
    LEFT JOIN comparisons ON comparisons.id = %(comparison_id)s
    LEFT JOIN prompts ON prompts.id = comparisons.prompt_id
    WHERE campaigns.id = %(id)s
"""  # noqa: S608


def present_desk(
    session: Session,
    *,
    campaign_id: int,
    annotator_id: int,
    lease: Lease | None,
    now: datetime,
    left: int | None = None,
    judged_today: int | None = None,
    low_below: int,
) -> Desk:
    """The desk with the leased comparison on it; without one, why there is none.

    `left` and `judged_today` are what the page before counted, and what was done since; None has them counted
    anew. `low_below` is how many comparisons should be ahead.
    """
    row = get_row(
        session,
        _desk(low_below),
        {
            "id": campaign_id,
            "annotator_id": annotator_id,
            "comparison_id": lease.comparison_id if lease else None,
            "shown_order": lease.shown_order if lease else [],
            "judged_today": judged_today,
            "today": now.replace(hour=0, minute=0, second=0, microsecond=0),
        },
    )
    state = CampaignState(row.state)
    standing, reason = (Standing.COMPARISON, "") if lease is not None else _why_none(session, campaign_id, state)
    if left is None and lease is not None:
        left = count_left(session, campaign_id=campaign_id, annotator_id=annotator_id)
    undoable = row.undoable if state is CampaignState.OPEN else None
    corrects = undoable is not None and row.undoes_a_judgment and asked_by(row.criteria, row.scales).corrections
    return Desk(
        campaign_id=campaign_id,
        campaign_name=row.name,
        standing=standing,
        comparison=None if lease is None else _blind(lease, row),
        reason=reason,
        revision_id=row.revision_id,
        is_guided=row.is_guided,
        judged_today=row.judged_today,
        day=now.date(),
        left=0 if lease is None else max(1, min(left or 0, MOST_LEFT)),
        undoable=undoable,
        is_low=row.is_low,
        correctable=undoable if corrects else None,
    )


def _blind(lease: Lease, row: Any) -> BlindComparison:
    return BlindComparison(
        assignment_id=lease.assignment_id,
        messages=shown_messages(row.messages),
        completions=list(row.completions or []),
        question=question_of(row),
    )


# Those at hand and those that the prompts still allow, of which the queue keeps count. The newest come first: they
# are the ones that this person has not met, so that the count ends early where there are many.
_LEFT = f"""
    SELECT (SELECT count(DISTINCT comparison_id) FROM (
              SELECT slots.comparison_id FROM slots
              WHERE slots.campaign_id = %(campaign_id)s AND slots.assignment_id IS NULL AND slots.judgment_id IS NULL
                AND NOT EXISTS (SELECT FROM assignments AS own
                                WHERE own.comparison_id = slots.comparison_id AND own.annotator_id = %(annotator_id)s
                                  AND own.state <> 'expired')
                AND EXISTS (SELECT FROM comparisons JOIN prompts ON prompts.id = comparisons.prompt_id
                            WHERE comparisons.id = slots.comparison_id AND prompts.state <> 'retired')
              ORDER BY slots.priority, slots.comparison_id DESC, slots.number DESC
              LIMIT {2 * MOST_LEFT}) AS free)
         + (SELECT count(*) FROM assignments
            WHERE campaign_id = %(campaign_id)s AND annotator_id = %(annotator_id)s AND state = 'open')
         + coalesce((SELECT to_make FROM campaign_queues WHERE campaign_id = %(campaign_id)s), 0)
"""  # noqa: S608


def count_left(session: Session, *, campaign_id: int, annotator_id: int) -> int:
    """How many comparisons there are still for a person, the one on their screen and those to be made included."""
    given = {"campaign_id": campaign_id, "annotator_id": annotator_id}
    return int(get_row(session, _LEFT, given)[0])


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


def _why_none(session: Session, campaign_id: int, state: CampaignState) -> tuple[Standing, str]:
    """Why nothing is on the desk, and what stalls the making of completions."""
    if state is not CampaignState.OPEN:
        return _SHUT[state], ""
    campaign = session.get_one(Campaign, campaign_id)
    queue = session.get(CampaignQueue, campaign_id, populate_existing=True)
    generates = campaign.alias is not None or campaign.pinned_version_id is not None
    if not generates or (queue is not None and queue.state is QueueState.RUN_OUT):
        return Standing.NOTHING_LEFT, ""
    return Standing.WAITING, queue.message if queue is not None and queue.state is QueueState.STALLED else ""
