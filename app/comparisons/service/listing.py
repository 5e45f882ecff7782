"""What the list shows of comparisons that were found: enough to tell them apart, and how each was judged."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.comparisons.filters import ComparisonFilter
from app.comparisons.ranking import Groups, format_ranking, to_positions
from app.comparisons.service.matching import IN_FORCE, REJECTED, of_judgment, parameters
from app.comparisons.service.naming import Reader, Who

EXCERPT = 240


@dataclass(frozen=True)
class FoundJudgment:
    """One judgment in force. `verdict` is the ranking of the comparison's own places, best first, as `2>1`.

    `is_meant` says that the filter asks for judgments like this one.
    """

    id: int
    who: Who
    verdict: str
    is_tie: bool
    all_bad: bool
    surplus: bool
    rejected: bool
    judged_at: datetime
    is_meant: bool
    corrected: bool
    """Whether its annotator wrote a better one."""
    spans: int
    """How many stretches of the texts its annotator marked."""


@dataclass(frozen=True)
class FoundComparison:
    """One comparison in a list. `completions` are the beginnings of its texts, in its own order."""

    id: int
    campaign_id: int
    campaign_name: str
    kind: str
    excerpt: str
    turns: int
    tags: list[str]
    split: str | None
    is_retired: bool
    completions: list[str]
    redundancy: int
    priority: float
    skips: int
    judgments: list[FoundJudgment] = field(default_factory=list)

    @property
    def counted(self) -> int:
        """Judgments that fill one of its slots."""
        return sum(not (judgment.surplus or judgment.rejected) for judgment in self.judgments)


_LIST = text(
    f"""
    SELECT c.id, c.campaign_id, c.kind, c.redundancy, c.priority, p.tags, p.split, p.state = 'retired' AS is_retired,
           left(p.messages->-1->>'content', {EXCERPT}) AS excerpt, jsonb_array_length(p.messages) AS turns,
           (SELECT array_agg(left(completions.text, {EXCERPT}) ORDER BY m.position)
            FROM comparison_completions AS m JOIN completions ON completions.id = m.completion_id
            WHERE m.comparison_id = c.id) AS completions,
           (SELECT count(*) FROM assignments AS a WHERE a.comparison_id = c.id AND a.state = 'skipped') AS skips
    FROM comparisons AS c JOIN prompts AS p ON p.id = c.prompt_id
    WHERE c.id = ANY(:ids) ORDER BY c.id DESC
    """  # noqa: S608
)


def list_found(
    session: Session, ids: Sequence[int], *, which: ComparisonFilter, reader: Reader
) -> list[FoundComparison]:
    """The comparisons of a page of ids, newest first, with their judgments in force."""
    rows = session.execute(_LIST, {"ids": list(ids)}).all()
    campaign_of = {row.id: row.campaign_id for row in rows}
    judgments = _judgments(session, campaign_of, which=which, reader=reader)
    return [
        FoundComparison(
            **{name: value for name, value in row._mapping.items() if name not in {"excerpt", "completions"}},
            excerpt=row.excerpt or "",
            completions=list(row.completions or []),
            campaign_name=reader.campaigns[row.campaign_id].name,
            judgments=judgments[row.id],
        )
        for row in rows
    ]


def _judgments(
    session: Session, campaign_of: dict[int, int], *, which: ComparisonFilter, reader: Reader
) -> dict[int, list[FoundJudgment]]:
    query = f"""
        SELECT j.id, j.comparison_id, j.annotator_id, j.import_id, j.external_annotator, j.ranking, j.all_bad,
               j.surplus, j.judged_at, EXISTS (SELECT FROM demonstrations WHERE judgment_id = j.id) AS corrected,
               (SELECT coalesce(sum(jsonb_array_length(each.value)), 0) FROM jsonb_each(j.spans) AS each) AS spans,
               {REJECTED} AS rejected, ({of_judgment(which)}) AS is_meant,
               (SELECT array_agg(m.completion_id ORDER BY m.position) FROM comparison_completions AS m
                WHERE m.comparison_id = j.comparison_id) AS places
        FROM judgments AS j WHERE j.comparison_id = ANY(:ids) AND {IN_FORCE} ORDER BY j.id
    """  # noqa: S608
    rows = session.execute(text(query), {**parameters(session, which), "ids": list(campaign_of)}).all()
    reader.learn(session, [row.annotator_id for row in rows])
    found: dict[int, list[FoundJudgment]] = defaultdict(list)
    for row in rows:
        found[row.comparison_id].append(
            FoundJudgment(
                id=row.id,
                who=reader.call_annotator(row, campaign_id=campaign_of[row.comparison_id]),
                verdict=written(row.ranking, row.places),
                is_tie=is_tie(row),
                all_bad=row.all_bad,
                surplus=row.surplus,
                rejected=row.rejected,
                judged_at=row.judged_at,
                is_meant=which.asks_for_judgments and row.is_meant,
                corrected=row.corrected,
                spans=row.spans,
            )
        )
    return found


def written(ranking: Groups | None, places: Sequence[int]) -> str:
    """A ranking of completion ids as one of places from 1; empty where there is none."""
    return format_ranking(to_positions(ranking, places)) if ranking else ""


def is_tie(row: Any) -> bool:
    """Whether a judgment prefers none, for all are equally good."""
    return row.ranking is not None and len(row.ranking) == 1 and not row.all_bad
