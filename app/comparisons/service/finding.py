"""Looking comparisons up in a time that does not grow with how many there are.

Pages follow each other by id. Each looks at a bounded number of comparisons: either at the **candidates** that an index
gives where some part of the filter is rare, or at the next so many in order, one by one; where those hold fewer than a
page, the page says how far it looked, and goes on from there. Every condition is a lookup for one comparison, so that
a page costs the same among thousands and millions.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.comparisons.filters import ComparisonFilter, Counting, Outcome
from app.comparisons.service.matching import QUERY, RATIONALE_WORDS, conditions, judged_by, parameters
from app.generation.models import COMPLETION_WORDS, PROMPT_WORDS

PAGE_SIZE = 25
MOST_CANDIDATES = 3000
"""Up to here an index gives all comparisons that a part of the filter finds; beyond, they are looked at in order."""
MOST_LOOKED_AT = 10_000
MOST_READ = 1000
"""As many where their texts have to be read for each."""


@dataclass(frozen=True)
class FoundPage:
    """Ids, the newest first. `before` and `after` are where the next pages begin, None where there is none.

    `looked_through` says that the page ended because enough was looked at, not because it was full.
    """

    ids: list[int]
    before: int | None
    after: int | None
    looked_through: bool = False


def find_page(
    session: Session,
    which: ComparisonFilter,
    *,
    before: int | None = None,
    after: int | None = None,
    size: int = PAGE_SIZE,
) -> FoundPage:
    """The comparisons older than `before`, or those newer than `after`, that a filter finds, one page of them."""
    look_up_by_index(session)
    newer = after is not None
    given = {"edge": after if newer else before, **parameters(session, which)}
    candidates = _candidates(session, which, given)
    scope = _scope(which, newer=newer, bounded=candidates is not None, edge=given["edge"])
    most = _most(given)
    found = list(
        session.scalars(text(_SEARCH.format(**scope, most=most, size=size + 1, conditions=conditions(which, given))),
                        {**given, "candidates": candidates})
    )  # fmt: skip
    more, ids = len(found) > size, found[:size]
    end = ids[-1] if more else None
    if not more and candidates is None:
        end = session.scalar(text(_END.format(**scope, skipped=most - 1)), given)
    return _page(ids, end=end, newer=newer, edge=given["edge"], looked_through=not more and end is not None)


def _page(ids: list[int], *, end: int | None, newer: bool, edge: int | None, looked_through: bool) -> FoundPage:
    """Pages before and after: beyond where this one ended, and back to where it began."""
    if newer:
        back = ids[0] if ids else (edge + 1 if edge is not None else None)
        return FoundPage(ids[::-1], before=back, after=end, looked_through=looked_through)
    start = ids[0] if ids else (edge - 1 if edge is not None else None)
    return FoundPage(ids, before=end, after=start if edge is not None else None, looked_through=looked_through)


_SEARCH = """
    SELECT c.id FROM (SELECT id, prompt_id FROM comparisons WHERE {scope} ORDER BY id {order} LIMIT {most}) AS c
    WHERE {conditions} ORDER BY c.id {order} LIMIT {size}
"""
_END = "SELECT id FROM comparisons WHERE {scope} ORDER BY id {order} OFFSET {skipped} LIMIT 1"


def _scope(which: ComparisonFilter, *, newer: bool, bounded: bool, edge: int | None) -> dict[str, str]:
    """Where it is looked for, and in which order."""
    parts = ["state = 'open'"]
    parts.append("campaign_id = :campaign" if len(which.campaign_ids) == 1 else "campaign_id = ANY(:campaigns)")
    if bounded:
        parts.append("id = ANY(:candidates)")
    if edge is not None:
        parts.append("id > :edge" if newer else "id < :edge")
    return {"scope": " AND ".join(parts), "order": "ASC" if newer else "DESC"}


def _most(given: dict[str, Any]) -> int:
    """How many to look at for one page; candidates are fewer."""
    return MOST_READ if given["search"] != "none" else MOST_LOOKED_AT


def look_up_by_index(session: Session) -> None:
    """Have PostgreSQL plan for the values at hand, and never read a table from its beginning."""
    session.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
    session.execute(text("SET LOCAL enable_seqscan = off"))


# --- Candidates: what an index gives for the rare parts of a filter


def _candidates(session: Session, which: ComparisonFilter, given: dict[str, Any]) -> list[int] | None:
    """All comparisons that one part of the filter finds, or None where none of its parts is rare."""
    for probe in _probes(which, given):
        ids = list(session.scalars(text(probe), {**given, "most": MOST_CANDIDATES + 1}))
        if len(ids) <= MOST_CANDIDATES:
            return ids
    return None


def _probes(which: ComparisonFilter, given: dict[str, Any]) -> list[str]:
    form = which.form
    probes = []
    if given["search"] == "words":
        probes.append(_WORDS)
    if form.counting is Counting.REJECTED:
        probes.append("SELECT j.comparison_id FROM rejections JOIN judgments AS j ON j.id = judgment_id LIMIT :most")
    if form.counting is Counting.SURPLUS:
        probes.append("SELECT comparison_id FROM judgments WHERE surplus LIMIT :most")
    if which.annotator is not None and form.outcome is Outcome.SKIPPED:
        probes.append("SELECT comparison_id FROM assignments WHERE annotator_id = :user_id LIMIT :most")
    elif which.annotator is not None:
        probes.append(f"SELECT comparison_id FROM judgments WHERE {judged_by(which.annotator)} LIMIT :most")  # noqa: S608
    if form.outcome is Outcome.SKIPPED:
        probes.append("SELECT comparison_id FROM assignments WHERE state = 'skipped' LIMIT :most")
    if form.tag:
        probes.append(
            "SELECT comparisons.id FROM prompts JOIN comparisons ON comparisons.prompt_id = prompts.id "
            "WHERE prompts.tags @> ARRAY[CAST(:tag AS text)] LIMIT :most"
        )
    if form.version is not None:
        probes.append(_OF_VERSION)
    return probes


_OF_VERSION = """
    SELECT m.comparison_id FROM completions JOIN comparison_completions AS m ON m.completion_id = completions.id
    WHERE completions.model_version_id = :version LIMIT :most
"""
_WORDS = f"""
    (SELECT comparisons.id FROM prompts JOIN comparisons ON comparisons.prompt_id = prompts.id
     WHERE {PROMPT_WORDS} @@ {QUERY} LIMIT :most)
    UNION ALL
    (SELECT m.comparison_id FROM completions JOIN comparison_completions AS m ON m.completion_id = completions.id
     WHERE {COMPLETION_WORDS} @@ {QUERY} LIMIT :most)
    UNION ALL
    (SELECT comparison_id FROM judgments WHERE rationale <> '' AND {RATIONALE_WORDS} @@ {QUERY} LIMIT :most)
    LIMIT :most
"""  # noqa: S608
