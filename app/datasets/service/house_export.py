"""Taking a campaign's comparisons out in the house format, so that loading them again gives the same."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session

from app.comparisons.models import Comparison, ComparisonKind, ComparisonState
from app.comparisons.ranking import format_ranking, to_positions
from app.comparisons.spans import Span
from app.datasets.house import UNKNOWN_ANNOTATOR, house_line, said
from app.datasets.service.judged import completions_of, demonstrations_of, judgments_of, version_names
from app.generation.models import Prompt
from app.pseudonyms import Pseudonyms

BATCH_COMPARISONS = 1000


def export_house_jsonl(
    session: Session, *, campaign_id: int, as_of: datetime, pseudonyms: Pseudonyms, with_rationales: bool = True
) -> Iterator[bytes]:
    """The lines of a campaign's ordinary comparisons, judged or not, oldest first, in constant memory.

    What an import brought keeps its annotators' ids; people of this installation appear under pseudonyms.
    Loading the lines into another campaign and exporting that gives the same lines.
    """
    names = version_names(session)
    options = {"stream_results": True, "yield_per": BATCH_COMPARISONS}
    for batch in session.execute(_comparisons(campaign_id), execution_options=options).partitions():
        ids = [row.id for row in batch]
        completions = completions_of(session, ids)
        judgments = judgments_of(session, ids, as_of=as_of, with_surplus=True)
        written = demonstrations_of(session, ids, as_of=as_of)
        for row in batch:
            texts = {each.id: each.text for each in completions[row.id]}
            yield house_line(
                said(
                    id=row.external_id,
                    prompt=_prompt(row.messages),
                    completions=[_completion(each, names) for each in completions[row.id]],
                    judgments=[
                        _judgment(each, texts, pseudonyms, with_rationale=with_rationales, written=written.get(each.id))
                        for each in judgments.get(row.id, [])
                    ],
                    tags=list(row.tags),
                    metadata=row.details,
                    redundancy=row.redundancy,
                )
            )


def _comparisons(campaign_id: int) -> Select[Any]:
    columns: list[Any] = [
        *(Comparison.id, Comparison.external_id, Comparison.redundancy),
        *(Prompt.messages, Prompt.tags, Prompt.details),
    ]
    return (
        select(*columns)
        .join(Prompt, Comparison.prompt_id == Prompt.id)
        .where(
            Comparison.campaign_id == campaign_id,
            Comparison.kind == ComparisonKind.ORDINARY,
            Comparison.state == ComparisonState.OPEN,
        )
        .order_by(Comparison.id)
    )


def _prompt(messages: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A single user turn as plain text, everything else as messages."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return str(messages[0]["content"])
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages]


def _completion(row: Row[Any], names: dict[int, str]) -> str | dict[str, Any]:
    model = names[row.model_version_id] if row.model_version_id is not None else row.model_label
    drawn = {
        "temperature": row.temperature,
        "top_p": row.top_p,
        "max_tokens": row.max_tokens,
        "seed": row.seed,
        "finish_reason": row.finish_reason,
    }
    sampling = {name: value for name, value in drawn.items() if value is not None}
    if model is None and not sampling:
        return str(row.text)
    return said(text=row.text, model=model, sampling=sampling)


def _judgment(
    row: Row[Any], texts: dict[int, str], pseudonyms: Pseudonyms, *, with_rationale: bool, written: Row[Any] | None
) -> dict[str, Any]:
    """A judgment as a line has it; `texts` are the completions in their order, by id."""
    order = list(texts)
    annotator = pseudonyms.of_user(row.annotator_id) if row.annotator_id is not None else row.external_annotator
    strengths = row.strengths or None
    return said(
        annotator=annotator if annotator != UNKNOWN_ANNOTATOR else None,
        ranking=_written(row.ranking, order) if row.ranking else None,
        all_bad=row.all_bad,
        strength=strengths[0] if strengths and len(strengths) == 1 else strengths,
        criteria={name: _written(groups, order) for name, groups in sorted((row.criteria or {}).items())},
        ratings=_by_place(row.ratings, order),
        flags=_by_place(row.flags, order),
        spans=_by_place(_quoted(row.spans, texts), order),
        rationale=row.rationale if with_rationale else None,
        confidence=row.confidence,
        active_ms=row.active_ms,
        surplus=row.surplus,
        judged_at=row.judged_at,
        demonstration=_demonstration(written, order) if written is not None else None,
    )


def _quoted(spans: dict[str, Any] | None, texts: dict[int, str]) -> dict[str, Any]:
    """Spans by completion, each with the words that it marks."""
    return {key: [Span.stored(each).quoting(texts[int(key)]) for each in given] for key, given in (spans or {}).items()}


def _demonstration(row: Row[Any], order: list[int]) -> dict[str, Any]:
    corrects = order.index(row.corrects_id) + 1 if row.corrects_id in order else None
    return said(text=row.text, corrects=corrects, written_at=row.created_at)


def _written(groups: list[list[int]], order: list[int]) -> str:
    return format_ranking(to_positions(groups, order))


def _by_place(values: dict[str, Any] | None, order: list[int]) -> dict[str, Any]:
    """What is said of completions, by their place from 1."""
    given = values or {}
    return {str(place): given[str(each)] for place, each in enumerate(order, start=1) if str(each) in given}
