"""A person's desk: one request of theirs after the other, and their own assignment as it stands."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.campaigns.asking import NOTHING, Asked, asked_by
from app.campaigns.models import CampaignState
from app.comparisons.models import AssignmentState
from app.database import run_together
from app.errors import Conflict, NotFound
from app.wire import Statement
from app.wording import gettext as _

_HOLD = "SELECT pg_advisory_xact_lock(%(desk)s, %(annotator_id)s)"
_DESK = 0x7061_6C61
"""First half of the advisory locks on desks."""


def hold_desk(session: Session, *, annotator_id: int) -> None:
    """Let one request of a person after the other: two tabs, a double click and a replay never interleave.

    Taken before anything else is read: what a statement reads after it, no other request of theirs can change.
    """
    run_together(session, _hold(annotator_id))


def _hold(annotator_id: int) -> Statement:
    return _HOLD, {"desk": _DESK, "annotator_id": annotator_id}


@dataclass(frozen=True)
class Question:
    """What a campaign revision asks of annotators, as far as the page and the checks need it."""

    revision_id: int
    number: int
    ties_allowed: bool
    all_bad_allowed: bool
    asked: Asked = NOTHING
    """Beside the verdict."""


@dataclass(frozen=True)
class HeldAssignment:
    """One's own assignment, read while the desk is held, with how its campaign stands at this moment."""

    id: uuid.UUID
    comparison_id: int
    campaign_id: int
    annotator_id: int
    state: AssignmentState
    shown_order: list[int]
    campaign_state: CampaignState
    still_judges: bool
    last_revision: int
    """Of the judgments given on it; 0 where there is none yet."""
    question: Question
    """Of the revision now in force."""
    closed_at: datetime | None
    editable_for: timedelta
    """How long its campaign lets people change a judgment; zero: never."""


# Of what annotators are told only whether there is anything: the page has it, and a verdict should not pay for it.
QUESTION = """
    SELECT revisions.id AS revision_id, revisions.number, revisions.ties_allowed, revisions.all_bad_allowed,
           revisions.criteria, revisions.scales,
           revisions.guidelines <> '' OR revisions.examples IS NOT NULL AS is_guided
    FROM campaign_revisions AS revisions WHERE revisions.campaign_id = campaigns.id
    ORDER BY revisions.number DESC LIMIT 1
"""
_ASSIGNMENT = f"""
    SELECT assignments.id, assignments.comparison_id, assignments.campaign_id, assignments.annotator_id,
           assignments.state, assignments.shown_order, assignments.closed_at, campaigns.state AS campaign_state,
           campaigns.editable_days,
           coalesce(enrolments.judges, false) AS still_judges,
           (SELECT coalesce(max(revision), 0) FROM judgments WHERE assignment_id = assignments.id) AS last_revision,
           question.revision_id, question.number, question.ties_allowed, question.all_bad_allowed,
           question.criteria, question.scales
    FROM assignments
    JOIN campaigns ON campaigns.id = assignments.campaign_id
    LEFT JOIN enrolments ON enrolments.campaign_id = campaigns.id AND enrolments.user_id = assignments.annotator_id
    CROSS JOIN LATERAL ({QUESTION}) AS question
    WHERE assignments.id = %(id)s
"""  # noqa: S608


def hold_assignment(session: Session, *, assignment_id: uuid.UUID, annotator_id: int) -> HeldAssignment:
    """Hold a person's desk and read an assignment of theirs.

    Raises NotFound where there is none of that id, Conflict where it was never theirs.
    """
    rows = run_together(session, _hold(annotator_id), (_ASSIGNMENT, {"id": assignment_id}))[-1]
    if not rows:
        raise NotFound(_("This comparison is not there any more. Reload the page to go on."))
    row = rows[0]
    if row.annotator_id != annotator_id:
        raise Conflict(_("This comparison was given to somebody else. Reload the page to get one of your own."))
    return HeldAssignment(
        id=row.id,
        comparison_id=row.comparison_id,
        campaign_id=row.campaign_id,
        annotator_id=row.annotator_id,
        state=AssignmentState(row.state),
        shown_order=list(row.shown_order),
        campaign_state=CampaignState(row.campaign_state),
        still_judges=row.still_judges,
        last_revision=row.last_revision,
        question=question_of(row),
        closed_at=row.closed_at,
        editable_for=timedelta(days=row.editable_days),
    )


def question_of(row: Any) -> Question:
    """The question in a row that has the columns of QUESTION."""
    asked = asked_by(row.criteria, row.scales)
    return Question(row.revision_id, row.number, row.ties_allowed, row.all_bad_allowed, asked)
