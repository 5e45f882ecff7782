"""What a person judged and skipped themselves, as it was shown to them, newest first."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.comparisons.ranking import Groups, format_ranking, to_positions
from app.comparisons.service.presenting import ShownMessage, shown_messages

PER_PAGE = 20


@dataclass(frozen=True)
class PastVerdict:
    """One comparison of a person's history.

    `ranks` holds the rank of each shown position, 1 is best and ties share one; empty where none was preferred.
    """

    assignment_id: uuid.UUID
    messages: list[ShownMessage]
    completions: list[str]
    skipped: bool
    skip_reason: str
    all_bad: bool
    ranks: list[int]
    decided_at: datetime
    set_aside: bool = False
    """Whether a manager rejected it."""
    rejection_reason: str = ""
    comes_again: bool = False
    """Whether it was set aside to be judged once more."""
    strength: int | None = None
    criteria: dict[str, str] = field(default_factory=dict)
    """Per criterion the ranking of shown positions, as on the wire."""
    ratings: dict[int, int] = field(default_factory=dict)
    flags: dict[int, list[str]] = field(default_factory=dict)
    """Both by shown position."""
    confidence: int | None = None
    rationale: str = ""
    written: str = ""
    """A better one of their own, in force; blank where there is none."""
    undo_key: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def is_tie(self) -> bool:
        """Whether none was preferred, for all are equally good."""
        return not (self.skipped or self.all_bad or self.ranks)


@dataclass(frozen=True)
class HistoryPage:
    """A page of a person's history, from 1; `has_more` says that older ones follow."""

    number: int
    verdicts: list[PastVerdict]
    has_more: bool


_HISTORY = text(
    """
    SELECT assignments.id, assignments.state, assignments.shown_order, assignments.closed_at, assignments.skip_reason,
           prompts.messages,
           last.ranking, coalesce(last.all_bad, false) AS all_bad, last.strengths, last.criteria, last.ratings,
           last.flags, last.confidence, coalesce(last.rationale, '') AS rationale,
           (SELECT completions.text FROM demonstrations
            JOIN completions ON completions.id = demonstrations.completion_id
            WHERE demonstrations.judgment_id = last.id ORDER BY number DESC LIMIT 1) AS written,
           coalesce(rejection.state = 'rejected', false) AS set_aside, rejection.reason, rejection.serves_again,
           (SELECT array_agg(completions.text ORDER BY places.place)
            FROM unnest(assignments.shown_order) WITH ORDINALITY AS places(id, place)
            JOIN completions ON completions.id = places.id) AS completions
    FROM assignments
    JOIN comparisons ON comparisons.id = assignments.comparison_id
    JOIN prompts ON prompts.id = comparisons.prompt_id
    LEFT JOIN LATERAL (SELECT * FROM judgments
                       WHERE judgments.assignment_id = assignments.id
                       ORDER BY revision DESC LIMIT 1) AS last ON assignments.state IN ('judged', 'expired')
    LEFT JOIN LATERAL (SELECT state, reason, serves_again FROM rejections WHERE judgment_id = last.id
                       ORDER BY number DESC LIMIT 1) AS rejection ON true
    WHERE assignments.annotator_id = :annotator_id AND assignments.campaign_id = :campaign_id
      AND (assignments.state IN ('judged', 'skipped')
           OR (assignments.state = 'expired' AND assignments.closed_at IS NOT NULL AND rejection.state = 'rejected'))
    ORDER BY assignments.closed_at DESC, assignments.leased_at DESC, assignments.id
    LIMIT :limit OFFSET :offset
    """
)


def past_verdicts(session: Session, *, campaign_id: int, annotator_id: int, page: int) -> HistoryPage:
    """A page of what a person decided in a campaign; `page` counts from 1."""
    number = min(max(page, 1), 1_000_000)
    person = {"campaign_id": campaign_id, "annotator_id": annotator_id}
    rows = session.execute(_HISTORY, {**person, "limit": PER_PAGE + 1, "offset": (number - 1) * PER_PAGE}).all()
    verdicts = [
        PastVerdict(
            assignment_id=row.id,
            messages=shown_messages(row.messages),
            completions=list(row.completions or []),
            skipped=row.state == "skipped",
            skip_reason=row.skip_reason,
            all_bad=row.all_bad,
            ranks=_ranks(row.ranking, row.shown_order),
            decided_at=row.closed_at,
            set_aside=row.set_aside,
            rejection_reason=(row.reason or "") if row.set_aside else "",
            comes_again=row.set_aside and row.serves_again,
            written=row.written or "",
            **_beside(row),
        )
        for row in rows[:PER_PAGE]
    ]
    return HistoryPage(number, verdicts, has_more=len(rows) > PER_PAGE)


def _beside(row: Any) -> dict[str, Any]:
    """What was answered beside the verdict, by shown position."""
    places = {str(completion_id): place for place, completion_id in enumerate(row.shown_order, start=1)}
    criteria = row.criteria or {}
    return {
        "strength": row.strengths[0] if row.strengths else None,
        "criteria": {name: format_ranking(to_positions(each, row.shown_order)) for name, each in criteria.items()},
        "ratings": {places[each]: value for each, value in (row.ratings or {}).items()},
        "flags": {places[each]: value for each, value in (row.flags or {}).items()},
        "confidence": row.confidence,
        "rationale": row.rationale,
    }


def _ranks(ranking: Groups | None, shown_order: list[int]) -> list[int]:
    """Per shown position, where there is a better and a worse one."""
    if ranking is None or len(ranking) < 2:
        return []
    groups = to_positions(ranking, shown_order)
    ranks = {
        place: 1 + sum(len(better) for better in groups[:at]) for at, group in enumerate(groups) for place in group
    }
    return [ranks[place] for place in range(1, len(shown_order) + 1)]
