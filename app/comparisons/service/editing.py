"""Changing a judgment in one's own history: as it was shown, with what was answered, and recorded as its next revision.

Nothing at the desk moves: the judgment keeps its place among what its person decided, and its slot.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.campaigns.asking import Asked
from app.campaigns.guidance import Guidance, guidance
from app.campaigns.models import CampaignState
from app.comparisons.models import AssignmentState
from app.comparisons.ranking import format_ranking, to_positions
from app.comparisons.service.correcting import keep_correction
from app.comparisons.service.desk import HeldAssignment
from app.comparisons.service.judging import Recorded, Verdict, is_for_writing, record_judgment
from app.comparisons.service.marking import sent_spans
from app.comparisons.service.presenting import BlindComparison, shown_messages
from app.comparisons.service.rejecting import is_set_aside
from app.database import find_row, get_row
from app.errors import Conflict
from app.wording import gettext as _

ALL_BAD = "all_bad"


@dataclass(frozen=True)
class PastJudgment:
    """A judgment opened again. `earlier` is what was answered, by the names of the fields that ask for it.

    Its `chosen` is the verdict in one value: a ranking of shown positions, with its strength (`2>1:3`), or `all_bad`.
    """

    comparison: BlindComparison
    campaign_id: int
    campaign_name: str
    guidance: Guidance
    judged_at: datetime
    earlier: dict[str, str]


_JUDGED = """
    SELECT campaigns.name, prompts.messages, revisions.guidelines, revisions.examples, last.*,
           (SELECT array_agg(completions.text ORDER BY places.place)
            FROM unnest(assignments.shown_order) WITH ORDINALITY AS places(id, place)
            JOIN completions ON completions.id = places.id) AS completions
    FROM assignments
    JOIN campaigns ON campaigns.id = assignments.campaign_id
    JOIN comparisons ON comparisons.id = assignments.comparison_id
    JOIN prompts ON prompts.id = comparisons.prompt_id
    JOIN campaign_revisions AS revisions ON revisions.id = %(revision_id)s
    CROSS JOIN LATERAL (SELECT ranking, all_bad, strengths, criteria, ratings, flags, spans, confidence, rationale,
                               judged_at
                        FROM judgments WHERE assignment_id = assignments.id ORDER BY revision DESC LIMIT 1) AS last
    WHERE assignments.id = %(id)s
"""


def open_judgment(session: Session, *, assignment: HeldAssignment, now: datetime) -> PastJudgment:
    """A judgment of one's own as it was shown, asked what its campaign asks now. Conflict as for changing it."""
    _require_editable(session, assignment, now)
    question = assignment.question
    row = get_row(session, _JUDGED, {"id": assignment.id, "revision_id": question.revision_id})
    return PastJudgment(
        comparison=BlindComparison(
            assignment_id=assignment.id,
            messages=shown_messages(row.messages),
            completions=list(row.completions),
            question=question,
        ),
        campaign_id=assignment.campaign_id,
        campaign_name=row.name,
        guidance=guidance(row.guidelines, row.examples),
        judged_at=row.judged_at,
        earlier=answered_fields(row, asked=question.asked, shown_order=assignment.shown_order),
    )


_REPLAYED = "SELECT id, surplus FROM judgments WHERE annotator_id = %(annotator_id)s AND key = %(key)s"


def change_judgment(
    session: Session, *, assignment: HeldAssignment, verdict: Verdict, key: uuid.UUID, now: datetime
) -> Recorded:
    """Record another verdict on what was judged, as its next revision; a replay returns the one that it first made.

    Raises Conflict where the campaign is not open, its days for changes are over, nothing is judged there, or a
    manager set the judgment aside.
    """
    replayed = find_row(session, _REPLAYED, {"annotator_id": assignment.annotator_id, "key": key})
    if replayed is not None:
        return Recorded(replayed.id, replayed.surplus, replayed=True)
    _require_editable(session, assignment, now)
    recorded = record_judgment(session, assignment=assignment, verdict=verdict, key=key, now=now, in_place=True)
    keep_correction(session, assignment=assignment, judgment_id=recorded.judgment_id, key=key, now=now)
    return recorded


def _require_editable(session: Session, assignment: HeldAssignment, now: datetime) -> None:
    if assignment.campaign_state is not CampaignState.OPEN:
        raise Conflict(_("This campaign is not open at present, so what was decided stays as it is."))
    if is_set_aside(session, assignment_id=assignment.id):
        raise Conflict(_("A manager has set this judgment aside, so it stays as it is. Your history says why."))
    if (
        assignment.state is not AssignmentState.JUDGED
        or assignment.closed_at is None
        or is_for_writing(assignment.shown_order)
    ):
        raise Conflict(_("There is no judgment of yours here to change. Your history shows what you decided."))
    if now - assignment.closed_at >= assignment.editable_for:
        raise Conflict(_("This campaign does not let judgments be changed any more after so long."))


def answered_fields(row: Any, *, asked: Asked, shown_order: list[int]) -> dict[str, str]:
    """The fields of the page, as `service/answers.py` reads them, that say what a judgment says.

    What is not asked any more is left out.
    """
    places = {str(completion_id): place for place, completion_id in enumerate(shown_order, start=1)}
    wire = "" if row.ranking is None else format_ranking(to_positions(row.ranking, shown_order))
    strength = f":{row.strengths[0]}" if asked.strength and row.strengths else ""
    fields = {"chosen": ALL_BAD if row.all_bad else f"{wire}{strength}", "ranking": wire, "rationale": row.rationale}
    for number, criterion in enumerate(asked.criteria, start=1):
        if groups := (row.criteria or {}).get(criterion.name):
            fields[f"criterion-{number}"] = format_ranking(to_positions(groups, shown_order))
    for completion_id, rating in (row.ratings or {}).items():
        fields[f"rating-{places[completion_id]}"] = str(rating)
    for completion_id, flags in (row.flags or {}).items():
        for number, flag in enumerate(asked.flags, start=1):
            if flag in flags:
                fields[f"flag-{places[completion_id]}-{number}"] = "1"
    if row.spans:
        fields["spans"] = sent_spans(row.spans, asked=asked, shown_order=shown_order, texts=row.completions)
    if row.confidence is not None:
        fields["confidence"] = str(row.confidence)
    return {name: value for name, value in fields.items() if value}
