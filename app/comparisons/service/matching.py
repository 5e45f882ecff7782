"""SQL for whether one comparison, or one judgment, is as a filter wants it.

Every condition is a lookup for the one comparison `c`: `OFFSET 0` keeps PostgreSQL from turning a lookup into a join of
whole tables. Only names of ours are put into the text; what people typed goes in as parameters.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.comparisons.filters import Annotator, ComparisonFilter, Counting, Outcome, Side, needs_substrings, terms
from app.generation.models import COMPLETION_WORDS, PROMPT_WORDS

REJECTED = """coalesce((SELECT rejections.state = 'rejected' FROM rejections WHERE rejections.judgment_id = j.id
                        ORDER BY rejections.number DESC LIMIT 1), false)"""
IN_FORCE = """j.state = 'given' AND NOT EXISTS (
    SELECT FROM judgments AS later WHERE later.assignment_id = j.assignment_id AND later.revision > j.revision)"""


def parameters(session: Session, which: ComparisonFilter) -> dict[str, Any]:
    """What the conditions are given. `search` says how texts are searched: by words, characters, or not at all."""
    form = which.form
    search = "none"
    if form.q:
        has_words = not needs_substrings(form.q) and session.scalar(
            text("SELECT numnode(websearch_to_tsquery('simple', :q)) > 0"), {"q": form.q}
        )
        search = "words" if has_words else "characters"
    patterns = {f"term{place}": f"%{_escaped(term)}%" for place, term in enumerate(terms(form.q))}
    return {
        **{"search": search, "q": form.q, "tag": form.tag, "version": form.version, "flag": form.flag},
        **(asdict(which.annotator) if which.annotator is not None else {}),
        **{"since": which.since, "until": which.until},
        **{"campaigns": which.campaign_ids, "campaign": which.campaign_ids[0] if which.campaign_ids else 0},
        **{"split": form.split.value if form.split else None, **patterns},
    }


def _escaped(term: str) -> str:
    return term.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def conditions(which: ComparisonFilter, given: dict[str, Any]) -> str:
    """SQL for whether a comparison `c` is as the filter wants it."""
    form = which.form
    parts = ["true"]
    if form.tag or form.split is not None:
        parts.append(f"EXISTS (SELECT FROM prompts AS p WHERE p.id = c.prompt_id AND {_of_prompt(which)} OFFSET 0)")
    if form.version is not None:
        parts.append(
            "EXISTS (SELECT FROM comparison_completions AS m JOIN completions ON completions.id = m.completion_id "
            "WHERE m.comparison_id = c.id AND completions.model_version_id = :version OFFSET 0)"
        )
    if form.outcome is Outcome.SKIPPED:
        parts.append(f"EXISTS (SELECT FROM assignments AS a WHERE a.comparison_id = c.id AND {_skip(which)} OFFSET 0)")
    if form.outcome is Outcome.NOT_JUDGED:
        parts.append(f"NOT EXISTS (SELECT FROM judgments AS j WHERE j.comparison_id = c.id AND {_standing()} OFFSET 0)")
    if form.outcome is Outcome.DISAGREEMENT:
        parts.append(
            "(SELECT count(DISTINCT jsonb_build_array(j.ranking, j.all_bad)) FROM judgments AS j "  # noqa: S608
            f"WHERE j.comparison_id = c.id AND {_standing()}) > 1"
        )
    if which.asks_for_judgments:
        parts.append(
            f"EXISTS (SELECT FROM judgments AS j WHERE j.comparison_id = c.id AND {of_judgment(which)} OFFSET 0)"
        )
    if given["search"] != "none":
        parts.append(_says(given))
    return " AND ".join(parts)


def _of_prompt(which: ComparisonFilter) -> str:
    parts = []
    if which.form.tag:
        parts.append("p.tags @> ARRAY[CAST(:tag AS text)]")
    if which.form.split is not None:
        parts.append("p.split IS NULL" if which.form.split is Side.NEITHER else "p.split = :split")
    return " AND ".join(parts)


def _standing() -> str:
    return f"{IN_FORCE} AND NOT {REJECTED}"


def of_judgment(which: ComparisonFilter) -> str:
    """SQL for whether a judgment `j` of a comparison `c` is as the filter wants it; all of it must hold of the same."""
    form = which.form
    parts = [IN_FORCE, REJECTED if form.counting is Counting.REJECTED else f"NOT {REJECTED}"]
    if form.counting in {Counting.COUNTED, Counting.SURPLUS}:
        parts.append("j.surplus" if form.counting is Counting.SURPLUS else "NOT j.surplus")
    if which.annotator is not None:
        parts.append(f"j.{judged_by(which.annotator)}")
    if which.since is not None:
        parts.append("j.judged_at >= :since")
    if which.until is not None:
        parts.append("j.judged_at < :until")
    if form.flag:
        parts.append(
            "jsonb_path_exists(j.flags, '$.*[*] ? (@ == $flag)', jsonb_build_object('flag', CAST(:flag AS text)))"
        )
    if form.outcome in _VERDICTS:
        parts.append(_VERDICTS[form.outcome])
    return " AND ".join(parts)


def judged_by(annotator: Annotator) -> str:
    """SQL for whether a row of judgments is by somebody, to be put after the table's name and a dot."""
    if annotator.user_id is not None:
        return "annotator_id = :user_id"
    return "import_id = :import_id AND external_annotator = :external"


_BEST_IS = """jsonb_array_length(j.ranking) > 1 AND j.ranking->0 = jsonb_build_array((
    SELECT m.completion_id FROM comparison_completions AS m WHERE m.comparison_id = j.comparison_id
    ORDER BY m.position OFFSET {place} LIMIT 1))"""
_VERDICTS = {
    Outcome.FIRST: _BEST_IS.format(place=0),
    Outcome.SECOND: _BEST_IS.format(place=1),
    Outcome.TIE: "jsonb_array_length(j.ranking) = 1 AND NOT j.all_bad",
    Outcome.ALL_BAD: "j.all_bad",
}


def _skip(which: ComparisonFilter) -> str:
    parts = ["a.state = 'skipped'"]
    if which.annotator is not None:
        parts.append("a.annotator_id = :user_id")  # whoever an import names was given nothing here
    if which.since is not None:
        parts.append("a.closed_at >= :since")
    if which.until is not None:
        parts.append("a.closed_at < :until")
    return " AND ".join(parts)


QUERY = "websearch_to_tsquery('simple', :q)"
RATIONALE_WORDS = "to_tsvector('simple'::regconfig, left(rationale, 100000))"


def _says(given: dict[str, Any]) -> str:
    """Whether the prompt, one of the completions or a rationale says all that is searched for."""
    if given["search"] == "words":
        prompt, completion = f"{PROMPT_WORDS} @@ {QUERY}", f"{COMPLETION_WORDS} @@ {QUERY}"
        rationale = f"rationale <> '' AND {RATIONALE_WORDS} @@ {QUERY}"
    else:
        names = [name for name in given if name.startswith("term")]
        prompt = _has_all(
            "(SELECT string_agg(said->>'content', ' ') FROM jsonb_array_elements(messages) AS said)", names
        )
        completion, rationale = _has_all("completions.text", names), _has_all("rationale", names)
    return f"""(
      EXISTS (SELECT FROM prompts WHERE prompts.id = c.prompt_id AND {prompt} OFFSET 0)
      OR EXISTS (SELECT FROM comparison_completions AS m JOIN completions ON completions.id = m.completion_id
                 WHERE m.comparison_id = c.id AND {completion} OFFSET 0)
      OR EXISTS (SELECT FROM judgments WHERE judgments.comparison_id = c.id AND {rationale} OFFSET 0))"""  # noqa: S608


def _has_all(said: str, names: Sequence[str]) -> str:
    return " AND ".join(f"{said} ILIKE :{name}" for name in names)
