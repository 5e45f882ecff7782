"""One comparison whole: what was asked and written, who was given it, and all that ever was decided about it."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.comparisons.models import Comparison
from app.comparisons.service.listing import is_tie, written
from app.comparisons.service.naming import Reader, Who
from app.comparisons.spans import Span


@dataclass(frozen=True)
class SeenCompletion:
    """One completion with all that is known of how it came about. `place` counts from 1, in the comparison's order."""

    place: int
    id: int
    text: str
    source: str
    version: str
    version_line_id: int | None
    model_label: str
    author: Who | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int | None
    finish_reason: str | None
    completion_tokens: int | None
    latency_ms: int | None
    created_at: datetime


@dataclass(frozen=True)
class SeenRejection:
    """That a judgment was set aside, or that this was taken back."""

    lifted: bool
    reason: str
    serves_again: bool
    by: Who | None
    at: datetime


@dataclass(frozen=True)
class SeenDemonstration:
    """What the annotator wrote under a judgment. `corrects` is the place of the completion corrected, 0 for none."""

    id: int
    text: str
    original: str
    corrects: int
    in_force: bool
    created_at: datetime


@dataclass(frozen=True)
class SeenSpan:
    """An error span with the words that it marks; `place` is its completion's."""

    place: int
    start: int
    end: int
    category: str
    text: str


@dataclass(frozen=True)
class SeenJudgment:
    """One revision of a judgment. `in_force` where none came after it; `counts` where it fills a slot."""

    id: int
    revision: int
    retracted: bool
    verdict: str
    is_tie: bool
    all_bad: bool
    strengths: list[Any]
    criteria: dict[str, str]
    ratings: dict[str, Any]
    flags: dict[str, Any]
    spans: list[SeenSpan]
    rationale: str
    confidence: int | None
    active_ms: int | None
    campaign_revision: int | None
    ui_version: str
    surplus: bool
    in_force: bool
    counts: bool
    judged_at: datetime
    rejections: list[SeenRejection]
    demonstrations: list[SeenDemonstration]

    @property
    def rejected(self) -> bool:
        """Whether it is set aside now."""
        return bool(self.rejections) and not self.rejections[-1].lifted


@dataclass(frozen=True)
class SeenPart:
    """One person's part in a comparison: the order they saw, how it stands, and every revision, the first one first."""

    who: Who
    state: str
    shown_order: list[int]
    leased_at: datetime | None
    closed_at: datetime | None
    expires_at: datetime | None
    skip_reason: str
    is_import: bool
    judgments: list[SeenJudgment] = field(default_factory=list)


@dataclass(frozen=True)
class SeenComparison:
    """A comparison with everything that hangs on it."""

    comparison: Comparison
    completions: list[SeenCompletion]
    parts: list[SeenPart]
    free: int
    leased: int
    filled: int


_SLOTS = text(
    """
    SELECT count(*) FILTER (WHERE judgment_id IS NOT NULL) AS filled,
           count(*) FILTER (WHERE judgment_id IS NULL AND assignment_id IS NOT NULL) AS leased,
           count(*) FILTER (WHERE judgment_id IS NULL AND assignment_id IS NULL) AS free
    FROM slots WHERE comparison_id = :id
    """
)
_JUDGMENTS = text(
    """
    SELECT judgments.*, campaign_revisions.number AS campaign_revision,
           EXISTS (SELECT FROM slots WHERE slots.judgment_id = judgments.id) AS counts,
           NOT EXISTS (SELECT FROM judgments AS later WHERE later.assignment_id = judgments.assignment_id
                       AND later.revision > judgments.revision) AS in_force
    FROM judgments LEFT JOIN campaign_revisions ON campaign_revisions.id = judgments.campaign_revision_id
    WHERE judgments.comparison_id = :id ORDER BY judgments.id LIMIT 1000
    """
)
_ASSIGNMENTS = text("SELECT * FROM assignments WHERE comparison_id = :id ORDER BY leased_at, id")
_WRITTEN = text(
    """
    SELECT demonstrations.id, demonstrations.judgment_id, demonstrations.corrects_id, demonstrations.created_at,
           completions.text, coalesce(corrected.text, '') AS original,
           NOT EXISTS (SELECT FROM demonstrations AS later WHERE later.judgment_id = demonstrations.judgment_id
                       AND later.number > demonstrations.number) AS in_force
    FROM demonstrations
    JOIN judgments ON judgments.id = demonstrations.judgment_id
    JOIN completions ON completions.id = demonstrations.completion_id
    LEFT JOIN completions AS corrected ON corrected.id = demonstrations.corrects_id
    WHERE judgments.comparison_id = :id ORDER BY demonstrations.judgment_id, demonstrations.number
    """
)
_REJECTIONS = text(
    """
    SELECT rejections.* FROM rejections JOIN judgments ON judgments.id = rejections.judgment_id
    WHERE judgments.comparison_id = :id ORDER BY rejections.judgment_id, rejections.number
    """
)


def inspect(session: Session, comparison: Comparison, *, reader: Reader) -> SeenComparison:
    """All there is to see of a comparison, people named as the reader may know them."""
    given, campaign_id = {"id": comparison.id}, comparison.campaign_id
    judgments = session.execute(_JUDGMENTS, given).all()
    assignments = session.execute(_ASSIGNMENTS, given).all()
    rejections = session.execute(_REJECTIONS, given).all()
    authors = [member.completion.author_id for member in comparison.members]
    reader.learn(session, [*(row.annotator_id for row in (*judgments, *assignments)), *authors])
    reader.learn(session, [row.by_id for row in rejections])
    places = [member.completion_id for member in comparison.members]
    texts = {member.completion_id: member.completion.text for member in comparison.members}
    set_aside: dict[int, list[SeenRejection]] = defaultdict(list)
    for row in rejections:
        set_aside[row.judgment_id].append(_rejection(row, reader, campaign_id))
    demonstrations: dict[int, list[SeenDemonstration]] = defaultdict(list)
    for row in session.execute(_WRITTEN, given):
        demonstrations[row.judgment_id].append(_demonstration(row, places))
    by_assignment: dict[Any, list[SeenJudgment]] = defaultdict(list)
    for row in judgments:
        seen = _judgment(row, places, _spans(row, places, texts), set_aside[row.id], demonstrations[row.id])
        by_assignment[row.assignment_id or f"import:{row.id}"].append(seen)
    parts = [_part(row, places, by_assignment[row.id], reader, campaign_id) for row in assignments]
    imported = [row for row in judgments if row.assignment_id is None]
    parts += [_imported(row, by_assignment[f"import:{row.id}"], reader, campaign_id) for row in imported]
    slots = session.execute(_SLOTS, given).one()
    return SeenComparison(comparison, _completions(comparison, reader), parts, **slots._mapping)


def _completions(comparison: Comparison, reader: Reader) -> list[SeenCompletion]:
    seen = []
    for place, member in enumerate(comparison.members, start=1):
        completion = member.completion
        version = completion.model_version
        shared = {name: getattr(completion, name) for name in _AS_STORED}
        author = completion.author_id
        seen.append(
            SeenCompletion(
                place=place,
                source=completion.source.value,
                version="" if version is None else version.name,
                version_line_id=None if version is None else version.line_id,
                model_label=completion.model_label or "",
                author=None if author is None else reader.call(author, campaign_id=comparison.campaign_id),
                **shared,
            )
        )
    return seen


_AS_STORED = (
    *("id", "text", "temperature", "top_p", "max_tokens", "seed", "finish_reason", "completion_tokens", "latency_ms"),
    "created_at",
)


def _rejection(row: Any, reader: Reader, campaign_id: int) -> SeenRejection:
    by = None if row.by_id is None else reader.call(row.by_id, campaign_id=campaign_id)
    return SeenRejection(row.state == "lifted", row.reason, row.serves_again, by, row.at)


def _demonstration(row: Any, places: list[int]) -> SeenDemonstration:
    corrects = places.index(row.corrects_id) + 1 if row.corrects_id in places else 0
    return SeenDemonstration(row.id, row.text, row.original, corrects, row.in_force, row.created_at)


def _spans(row: Any, places: list[int], texts: dict[int, str]) -> list[SeenSpan]:
    """In the order of the texts; the rows hold each completion's in order."""
    return [
        SeenSpan(place=place, **Span.stored(span).quoting(texts[completion_id]))
        for place, completion_id in enumerate(places, start=1)
        for span in (row.spans or {}).get(str(completion_id), [])
    ]


def _judgment(
    row: Any,
    places: list[int],
    spans: list[SeenSpan],
    rejections: list[SeenRejection],
    demonstrations: list[SeenDemonstration],
) -> SeenJudgment:
    numbers = {str(each): str(place) for place, each in enumerate(places, start=1)}
    shared = {name: getattr(row, name) for name in _SAID}
    return SeenJudgment(
        retracted=row.state == "retracted",
        verdict=written(row.ranking, places),
        is_tie=is_tie(row),
        strengths=row.strengths or [],
        criteria={name: written(ranking, places) for name, ranking in (row.criteria or {}).items()},
        ratings={numbers.get(each, each): value for each, value in (row.ratings or {}).items()},
        flags={numbers.get(each, each): value for each, value in (row.flags or {}).items()},
        spans=spans,
        rejections=rejections,
        demonstrations=demonstrations,
        **shared,
    )


_SAID = (
    *(
        "id",
        "revision",
        "all_bad",
        "rationale",
        "confidence",
        "active_ms",
        "campaign_revision",
        "ui_version",
        "surplus",
    ),
    *("in_force", "counts", "judged_at"),
)


def _part(row: Any, places: list[int], judgments: list[SeenJudgment], reader: Reader, campaign_id: int) -> SeenPart:
    return SeenPart(
        who=reader.call(row.annotator_id, campaign_id=campaign_id),
        state=row.state,
        shown_order=[places.index(each) + 1 for each in row.shown_order if each in places],
        leased_at=row.leased_at,
        closed_at=row.closed_at,
        expires_at=row.expires_at if row.state == "open" else None,
        skip_reason=row.skip_reason,
        is_import=False,
        judgments=judgments,
    )


def _imported(row: Any, judgments: list[SeenJudgment], reader: Reader, campaign_id: int) -> SeenPart:
    who = reader.call_annotator(row, campaign_id=campaign_id)
    return SeenPart(who, "judged", [], None, row.judged_at, None, "", is_import=True, judgments=judgments)
