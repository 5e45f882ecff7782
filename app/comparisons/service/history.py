"""What a person judged and skipped themselves, as it was shown to them, newest first."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.comparisons.filters import terms
from app.comparisons.ranking import Groups, format_ranking, to_positions
from app.comparisons.service.judging import SLIP, is_for_writing
from app.comparisons.service.presenting import ShownMessage, shown_messages
from app.comparisons.spans import Piece, Span, divided

PER_PAGE = 20
LONGEST_QUERY = 400


class Decision(StrEnum):
    """What one decided, as far as one looks for it."""

    PREFERRED = "preferred"
    TIE = "tie"
    ALL_BAD = "all_bad"
    SKIPPED = "skipped"
    SET_ASIDE = "set_aside"


@dataclass(frozen=True)
class HistorySearch:
    """What somebody looks for among what they decided; what is blank does not narrow.

    `words`, and "phrases" in quotes, may stand in what was shown and in what the person wrote themselves. Instructions
    to the model were not shown, and are not searched.
    """

    words: str = ""
    decision: Decision | None = None
    flag: str = ""

    @classmethod
    def typed(cls, *, q: str, decision: str, flag: str) -> "HistorySearch":
        """A search as an address has it; a decision that there is not does not narrow."""
        words, flag = (each.replace("\x00", "").encode("utf-8", "ignore").decode().strip() for each in (q, flag))
        known = Decision(decision) if decision in set(Decision) else None
        return cls(words=words[:LONGEST_QUERY], decision=known, flag=flag[:LONGEST_QUERY])

    @property
    def address(self) -> dict[str, str]:
        """As an address has it: only what narrows."""
        given = {"q": self.words, "decision": self.decision.value if self.decision else "", "flag": self.flag}
        return {name: value for name, value in given.items() if value}


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
    marked: dict[int, list[Piece]] = field(default_factory=dict)
    """By shown position, of those in which error spans are marked: the text as it is stored, in pieces."""
    confidence: int | None = None
    rationale: str = ""
    written: str = ""
    """A better one of their own, in force; blank where there is none."""
    undo_key: uuid.UUID = field(default_factory=uuid.uuid4)

    def may_be_undone(self, campaign: Campaign, now: datetime) -> bool:
        """Whether its person may still take it back."""
        in_time = self.skipped or now - self.decided_at < max(timedelta(days=campaign.editable_days), SLIP)
        return campaign.is_open and not self.set_aside and in_time

    def may_be_changed(self, campaign: Campaign, now: datetime) -> bool:
        """Whether its person may still give another verdict in its place."""
        in_time = now - self.decided_at < timedelta(days=campaign.editable_days)
        return campaign.is_open and not (self.set_aside or self.skipped) and in_time

    @property
    def is_for_writing(self) -> bool:
        """Whether there was nothing to compare: a prompt alone, or with a draft to begin with."""
        return is_for_writing(self.completions)

    @property
    def is_tie(self) -> bool:
        """Whether none was preferred, for all are equally good."""
        return not (self.skipped or self.all_bad or self.ranks or self.is_for_writing)


@dataclass(frozen=True)
class HistoryPage:
    """A page of a person's history, from 1; `has_more` says that older ones follow."""

    number: int
    verdicts: list[PastVerdict]
    has_more: bool


_HISTORY = """
    SELECT assignments.id, assignments.state, assignments.shown_order, assignments.closed_at, assignments.skip_reason,
           prompts.messages,
           last.ranking, coalesce(last.all_bad, false) AS all_bad, last.strengths, last.criteria, last.ratings,
           last.flags, last.spans, last.confidence, coalesce(last.rationale, '') AS rationale,
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
    {narrowed}
    ORDER BY assignments.closed_at DESC, assignments.leased_at DESC, assignments.id
    LIMIT :limit OFFSET :offset
"""

_DECIDED = {
    Decision.PREFERRED: "assignments.state <> 'skipped' AND NOT last.all_bad AND jsonb_array_length(last.ranking) > 1",
    Decision.TIE: "assignments.state <> 'skipped' AND NOT last.all_bad AND jsonb_array_length(last.ranking) = 1",
    Decision.ALL_BAD: "last.all_bad",
    Decision.SKIPPED: "assignments.state = 'skipped'",
    Decision.SET_ASIDE: "rejection.state = 'rejected'",
}
_FLAGGED = """EXISTS (SELECT FROM jsonb_each(last.flags) AS raised
                      WHERE raised.value @> jsonb_build_array(CAST(:flag AS text)))"""
_HAS_TERM = """(
    EXISTS (SELECT FROM jsonb_array_elements(prompts.messages) AS message
            WHERE message ->> 'role' <> 'system' AND message ->> 'content' ILIKE :{term})
    OR EXISTS (SELECT FROM completions WHERE id = ANY(assignments.shown_order) AND text ILIKE :{term})
    OR last.rationale ILIKE :{term} OR assignments.skip_reason ILIKE :{term})"""


def past_verdicts(
    session: Session, *, campaign_id: int, annotator_id: int, page: int, search: HistorySearch = HistorySearch()
) -> HistoryPage:
    """A page of what a person decided in a campaign, or of what of it they look for; `page` counts from 1."""
    number = min(max(page, 1), 1_000_000)
    person = {"campaign_id": campaign_id, "annotator_id": annotator_id}
    conditions, given = _narrowed(search)
    query = text(_HISTORY.replace("{narrowed}", "".join(f" AND {condition}" for condition in conditions)))
    rows = session.execute(query, {**person, **given, "limit": PER_PAGE + 1, "offset": (number - 1) * PER_PAGE}).all()
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


def _narrowed(search: HistorySearch) -> tuple[list[str], dict[str, str]]:
    """Conditions, and what stands for the names in them."""
    conditions, given = [], {}
    if search.decision is not None:
        conditions.append(_DECIDED[search.decision])
    if search.flag:
        conditions.append(_FLAGGED)
        given["flag"] = search.flag
    for number, term in enumerate(terms(search.words)):
        conditions.append(_HAS_TERM.format(term=f"term_{number}"))
        escaped = term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        given[f"term_{number}"] = f"%{escaped}%"
    return conditions, given


def _beside(row: Any) -> dict[str, Any]:
    """What was answered beside the verdict, by shown position."""
    places = {str(completion_id): place for place, completion_id in enumerate(row.shown_order, start=1)}
    criteria = row.criteria or {}
    return {
        "strength": row.strengths[0] if row.strengths else None,
        "criteria": {name: format_ranking(to_positions(each, row.shown_order)) for name, each in criteria.items()},
        "ratings": {places[each]: value for each, value in (row.ratings or {}).items()},
        "flags": {places[each]: value for each, value in (row.flags or {}).items()},
        "marked": {
            places[each]: divided(row.completions[places[each] - 1], [Span.stored(span) for span in spans])
            for each, spans in (row.spans or {}).items()
        },
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
