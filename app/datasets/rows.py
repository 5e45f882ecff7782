"""From judgments to the rows of a snapshot: ranks, weights and agreement, as pure functions.

A row is a plain dict in the shape that Parquet gives back (`Table.to_pylist`), so that hashing the rows before
they are written and after they are read comes to the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any

import orjson

from app.comparisons.models import ComparisonKind
from app.comparisons.spans import Span

Row = dict[str, Any]
Groups = list[list[int]]

TRAINED_ON = {ComparisonKind.ORDINARY, ComparisonKind.ADJUDICATION}
"""Gold comparisons and repeats measure annotators; training on them would count a verdict twice."""


JUDGMENT, CORRECTION = "judgment", "correction"
"""What a ranking row comes from."""


@dataclass(frozen=True)
class JudgedCompletion:
    """One completion of a comparison."""

    id: int
    text: str
    model: str | None
    on_policy: bool


@dataclass(frozen=True)
class JudgedComparison:
    """What a comparison's judgments share. `prompt` starts with the system prompt that generation used."""

    id: int
    campaign_id: int
    kind: ComparisonKind
    redundancy: int
    prompt_id: int
    split: str | None
    prompt: list[dict[str, str]]
    completions: list[JudgedCompletion]
    picked: str | None = None
    """How the completions were chosen of the samples drawn, a `Picking`; None where they were not chosen here."""


@dataclass(frozen=True)
class Correction:
    """What an annotator wrote, by its completion's `id`, in the place of the completion that it `corrects`."""

    id: int
    text: str
    corrects: JudgedCompletion


@dataclass(frozen=True)
class Verdict:
    """One judgment, with its annotator under a pseudonym. `ranking` holds tie groups of completion ids."""

    id: int
    annotator: str
    user_id: int | None
    campaign_revision: int | None
    shown_order: list[int] | None
    ranking: Groups | None
    all_bad: bool
    strengths: list[int] | None
    criteria: Mapping[str, Groups] | None
    ratings: Mapping[str, float] | None
    flags: Mapping[str, list[str]] | None
    spans: Mapping[str, list[dict[str, Any]]] | None
    rationale: str
    confidence: int | None
    active_ms: int | None
    surplus: bool
    rejected: bool
    ui_version: str
    judged_at: datetime
    source: str
    correction: Correction | None = None
    """A better one by the same annotator, in force."""


def judgment_row(comparison: JudgedComparison, verdict: Verdict, *, with_rationale: bool) -> Row:
    """A row of `judgments.parquet`; the rationale only where asked for, it is personal text."""
    ranking = verdict.ranking
    return {
        "judgment_id": str(verdict.id),
        "comparison_id": str(comparison.id),
        "campaign_id": str(comparison.campaign_id),
        "campaign_revision": verdict.campaign_revision,
        "prompt_id": str(comparison.prompt_id),
        "split": comparison.split,
        **_texts(comparison),
        "annotator": verdict.annotator,
        "shown_order": None if verdict.shown_order is None else [str(each) for each in verdict.shown_order],
        "ranking": None if ranking is None else [[str(each) for each in group] for group in ranking],
        "all_bad": verdict.all_bad,
        "strengths": verdict.strengths,
        "criteria": _json(verdict.criteria and {name: _as_text(groups) for name, groups in verdict.criteria.items()}),
        "ratings": _json(verdict.ratings),
        "flags": _json(verdict.flags),
        "spans": _json(_quoted_spans(comparison, verdict)),
        "rationale": (verdict.rationale or None) if with_rationale else None,
        "confidence": verdict.confidence,
        "active_ms": verdict.active_ms,
        "surplus": verdict.surplus,
        "rejected": verdict.rejected,
        "ui_version": verdict.ui_version,
        "judged_at": verdict.judged_at,
        "source": verdict.source,
        "picked": comparison.picked,
    }


def ranking_rows(
    comparison: JudgedComparison, verdicts: Sequence[Verdict], *, corrections_as_chosen: bool = False
) -> list[Row]:
    """The rows that a comparison's judgments make for training: one each, then one for each criterion it ranks.

    With `corrections_as_chosen` one more for each correction, in which it is preferred to what it corrects. Each weighs
    1/R, R being the comparison's redundancy.
    """
    shared = {"prompt_id": str(comparison.prompt_id), **_texts(comparison)}
    overall = [ranks_of(comparison, verdict.ranking) for verdict in verdicts]
    rows = []
    for number, verdict in enumerate(verdicts):
        rows.append(
            {
                **shared,
                "ranks": overall[number],
                "strengths": verdict.strengths,
                "all_bad": verdict.all_bad,
                **_details(comparison, verdict),
                "weight": 1 / comparison.redundancy,
                "judgments": len(verdicts),
                "agreement": agreement(overall[number], [*overall[:number], *overall[number + 1 :]]),
                "criterion": None,
                "source": JUDGMENT,
            }
        )
        for name in sorted(verdict.criteria or {}):
            rows.append(_criterion_row(rows[-1], comparison, verdicts, number, name))
        if corrections_as_chosen and verdict.correction is not None:
            rows.append(_correction_row(rows[-1], verdict.correction))
    return rows


def _correction_row(row: Row, correction: Correction) -> Row:
    """The pair of a correction and what it corrects. Nobody else was asked about it, so nobody agrees or not."""
    corrected = correction.corrects
    return {
        **row,
        "completion_ids": [str(correction.id), str(corrected.id)],
        "completions": [[{"role": "assistant", "content": text}] for text in (correction.text, corrected.text)],
        "model_versions": [None, corrected.model],
        "ranks": [1, 2],
        "strengths": None,
        "all_bad": False,
        "ratings": None,
        "flags": None,
        "spans": None,
        "judgments": 1,
        "agreement": None,
        "criterion": None,
        "source": CORRECTION,
    }


def _criterion_row(row: Row, comparison: JudgedComparison, verdicts: Sequence[Verdict], number: int, name: str) -> Row:
    """The same judgment by one criterion; its agreement is with the others that ranked by it."""
    by_criterion = {
        place: ranks_of(comparison, verdict.criteria[name])
        for place, verdict in enumerate(verdicts)
        if verdict.criteria and name in verdict.criteria
    }
    others = [ranks for place, ranks in by_criterion.items() if place != number]
    return {
        **row,
        "ranks": by_criterion[number],
        "strengths": None,
        "all_bad": False,
        "judgments": len(by_criterion),
        "agreement": agreement(by_criterion[number], others),
        "criterion": name,
    }


def ranks_of(comparison: JudgedComparison, ranking: Groups | None) -> list[int]:
    """A rank per completion, 1 for the best, ties equal; all 1 where nothing was set apart."""
    places = {each: rank for rank, group in enumerate(ranking or [], start=1) for each in group}
    return [places.get(completion.id, len(ranking or []) or 1) for completion in comparison.completions]


def agreement(ranks: Sequence[int], others: Sequence[Sequence[int]]) -> float | None:
    """Share of the pairs of completions, over all other rankings, that are ordered (or tied) as in this one."""
    if not others:
        return None
    pairs = list(combinations(range(len(ranks)), 2))
    same = sum(_order(ranks, pair) == _order(other, pair) for other in others for pair in pairs)
    return same / (len(others) * len(pairs))


def preferred_pairs(ranks: Sequence[int]) -> list[tuple[int, int]]:
    """Places (better, worse) of all completions that a ranking sets apart, in order of place."""
    return [
        (first, second) if ranks[first] < ranks[second] else (second, first)
        for first, second in combinations(range(len(ranks)), 2)
        if ranks[first] != ranks[second]
    ]


def _order(ranks: Sequence[int], pair: tuple[int, int]) -> int:
    first, second = ranks[pair[0]], ranks[pair[1]]
    return (first > second) - (first < second)


def _texts(comparison: JudgedComparison) -> Row:
    return {
        "prompt": comparison.prompt,
        "completion_ids": [str(completion.id) for completion in comparison.completions],
        "completions": [[{"role": "assistant", "content": each.text}] for each in comparison.completions],
        "model_versions": [completion.model for completion in comparison.completions],
    }


def _details(comparison: JudgedComparison, verdict: Verdict) -> Row:
    """Ratings, flags and spans in the order of the completions; null where none were given."""
    ids = [str(completion.id) for completion in comparison.completions]
    ratings, flags, spans = verdict.ratings, verdict.flags, _quoted_spans(comparison, verdict)
    return {
        "ratings": [float(ratings[each]) if each in ratings else None for each in ids] if ratings else None,
        "flags": [list(flags.get(each, [])) for each in ids] if flags else None,
        "spans": [spans.get(each, []) for each in ids] if spans else None,
    }


def _quoted_spans(comparison: JudgedComparison, verdict: Verdict) -> dict[str, list[Row]]:
    """Completion id to its error spans, each with the words that it marks."""
    given = verdict.spans or {}
    return {
        str(each.id): [Span.stored(span).quoting(each.text) for span in given[str(each.id)]]
        for each in comparison.completions
        if str(each.id) in given
    }


def _as_text(groups: Groups) -> list[list[str]]:
    return [[str(each) for each in group] for group in groups]


def _json(value: Any) -> str | None:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() if value else None
