"""Streaming what was judged: comparisons with their judgments in force, in a fixed order, in constant memory.

A cursor on the server walks the comparisons; texts and judgments of a batch are fetched by id, each text once.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, and_, case, exists, false, func, select
from sqlalchemy.orm import Session, aliased

from app.campaigns.models import Campaign, CampaignKind, CampaignRevision
from app.comparisons.models import (
    Assignment,
    Comparison,
    ComparisonCompletion,
    Demonstration,
    Judgment,
    JudgmentState,
    Rejection,
    RejectionState,
)
from app.datasets.rows import Correction, JudgedComparison, JudgedCompletion, Verdict
from app.deployments.models import Alias, Deployment, ModelLine, ModelVersion
from app.generation.models import Completion, CompletionSource, Prompt, Split
from app.pseudonyms import Pseudonyms
from trainer.contract.server import version_name

BATCH_COMPARISONS = 1000

Judged = tuple[JudgedComparison, list[Verdict]]

_COMPLETION_COLUMNS: list[Any] = [
    *(Completion.id, Completion.source, Completion.text, Completion.model_version_id, Completion.model_label),
    *(Completion.temperature, Completion.top_p, Completion.max_tokens, Completion.seed, Completion.finish_reason),
]


def begin_consistent_reading(session: Session) -> None:
    """Make all that this session reads from now on the state of one instant.

    A session that lives inside somebody's open transaction keeps to that transaction's own isolation.
    """
    if isinstance(session.get_bind(), Engine):
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def was_rejected(*, as_of: datetime) -> ColumnElement[bool]:
    """Whether a judgment was set aside at an instant."""
    last = (
        select(Rejection.state == RejectionState.REJECTED)
        .where(Rejection.judgment_id == Judgment.id, Rejection.at <= as_of)
        .order_by(Rejection.number.desc())
        .limit(1)
    )
    return func.coalesce(last.scalar_subquery(), false())


def judgments_in_force(*, as_of: datetime) -> Select[Any]:
    """Select all judgments that held at an instant: the last revision of each, unless it retracts."""
    return select().where(judgment_holds(as_of=as_of))


def judgment_holds(*, as_of: datetime) -> ColumnElement[bool]:
    """Whether a judgment was in force at an instant."""
    later = aliased(Judgment)
    superseded = exists().where(
        later.assignment_id == Judgment.assignment_id, later.revision > Judgment.revision, later.judged_at <= as_of
    )
    return and_(Judgment.judged_at <= as_of, Judgment.state == JudgmentState.GIVEN, ~superseded)


def judged_comparisons(
    session: Session,
    *,
    campaign_ids: Collection[int],
    as_of: datetime,
    with_surplus: bool,
    pseudonyms: Pseudonyms,
) -> Iterator[list[Judged]]:
    """Batches of comparisons that have judgments in force, with those; a comparison is never split.

    Ordered by split (train, eval, neither), then prompt, comparison and judgment, so that the same judgments
    always come in the same order. Without `with_surplus` only judgments that were wanted are taken; those that were set
    aside are among them, and say so.
    """
    names = version_names(session)
    on_policy = current_versions(session)
    campaigns = {
        campaign.id: campaign for campaign in session.scalars(select(Campaign).where(Campaign.id.in_(campaign_ids)))
    }
    compared = [each.id for each in campaigns.values() if each.kind is not CampaignKind.DEMONSTRATION]
    query = _comparisons(campaign_ids=compared, as_of=as_of, with_surplus=with_surplus)
    options = {"stream_results": True, "yield_per": BATCH_COMPARISONS}
    for batch in session.execute(query, execution_options=options).partitions():
        ids = [row.id for row in batch]
        verdicts = _verdicts(session, ids, as_of=as_of, with_surplus=with_surplus, pseudonyms=pseudonyms)
        written = demonstrations_of(session, ids, as_of=as_of)
        completions = completions_of(session, ids)
        comparisons = [
            _comparison(row, completions[row.id], campaigns[row.campaign_id], names, on_policy) for row in batch
        ]
        yield [(each, [_corrected(verdict, each, written) for verdict in verdicts[each.id]]) for each in comparisons]


def version_names(session: Session) -> dict[int, str]:
    """Every model version's name, by id."""
    query = select(ModelVersion.id, ModelLine.slug, ModelVersion.number).join(
        ModelLine, ModelVersion.line_id == ModelLine.id
    )
    return {version_id: version_name(slug, number) for version_id, slug, number in session.execute(query)}


def current_versions(session: Session) -> dict[int, int]:
    """The version that each line's `current` alias points at."""
    query = select(Deployment.line_id, Deployment.version_id).where(
        Deployment.alias == Alias.CURRENT, Deployment.until.is_(None)
    )
    return {row.line_id: row.version_id for row in session.execute(query)}


def completions_of(session: Session, comparison_ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    """The completions of comparisons in their fixed order, with texts and where they came from."""
    query = (
        select(ComparisonCompletion.comparison_id, *_COMPLETION_COLUMNS)
        .join(Completion, ComparisonCompletion.completion_id == Completion.id)
        .where(ComparisonCompletion.comparison_id.in_(comparison_ids))
        .order_by(ComparisonCompletion.comparison_id, ComparisonCompletion.position)
    )
    found: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in session.execute(query):
        found[row.comparison_id].append(row)
    return found


def judgments_of(
    session: Session, comparison_ids: Sequence[int], *, as_of: datetime, with_surplus: bool, with_rejected: bool = False
) -> dict[int, list[Row[Any]]]:
    """The judgments in force of comparisons, oldest first; each says whether it was set aside (`rejected`)."""
    query = (
        judgments_in_force(as_of=as_of)
        .add_columns(*Judgment.__table__.c, was_rejected(as_of=as_of).label("rejected"))
        .add_columns(CampaignRevision.number.label("revision_number"), Assignment.shown_order)
        .join_from(Judgment, CampaignRevision, Judgment.campaign_revision_id == CampaignRevision.id, isouter=True)
        .join(Assignment, Judgment.assignment_id == Assignment.id, isouter=True)
        .where(Judgment.comparison_id.in_(comparison_ids))
        .order_by(Judgment.comparison_id, Judgment.id)
    )
    if not with_surplus:
        query = query.where(Judgment.surplus.is_(False))
    if not with_rejected:
        query = query.where(~was_rejected(as_of=as_of))
    found: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in session.execute(query):
        found[row.comparison_id].append(row)
    return found


def demonstrations_in_force(*, as_of: datetime) -> Select[Any]:
    """Select the last of what was written under each judgment up to an instant; of the judgments it says nothing."""
    later = aliased(Demonstration)
    superseded = exists().where(
        later.judgment_id == Demonstration.judgment_id, later.number > Demonstration.number, later.created_at <= as_of
    )
    return select().where(Demonstration.created_at <= as_of, ~superseded)


def demonstrations_of(session: Session, comparison_ids: Sequence[int], *, as_of: datetime) -> dict[int, Row[Any]]:
    """What is in force of that which people wrote under judgments on these comparisons, by the judgment's id."""
    query = (
        demonstrations_in_force(as_of=as_of)
        .add_columns(Demonstration.judgment_id, Demonstration.corrects_id, Demonstration.completion_id, Completion.text)
        .add_columns(Demonstration.created_at)
        .join_from(Demonstration, Completion, Demonstration.completion_id == Completion.id)
        .join(Judgment, Demonstration.judgment_id == Judgment.id)
        .where(Judgment.comparison_id.in_(comparison_ids))
    )
    return {row.judgment_id: row for row in session.execute(query)}


def _corrected(verdict: Verdict, comparison: JudgedComparison, written: dict[int, Row[Any]]) -> Verdict:
    """The verdict with the correction that goes with it, if there is one."""
    row = written.get(verdict.id)
    corrects = next((each for each in comparison.completions if row and each.id == row.corrects_id), None)
    if row is None or corrects is None:
        return verdict
    return replace(verdict, correction=Correction(row.completion_id, row.text, corrects))


def annotator_of(row: Row[Any], pseudonyms: Pseudonyms) -> str:
    """The pseudonym of whoever made a judgment."""
    if row.annotator_id is not None:
        return pseudonyms.of_user(row.annotator_id)
    return pseudonyms.of_external(row.import_id, row.external_annotator)


def _comparisons(*, campaign_ids: Collection[int], as_of: datetime, with_surplus: bool) -> Select[Any]:
    judged = judgments_in_force(as_of=as_of).where(Judgment.comparison_id == Comparison.id)
    if not with_surplus:
        judged = judged.where(Judgment.surplus.is_(False))
    side = case((Prompt.split == Split.TRAIN, 0), (Prompt.split == Split.EVAL, 1), else_=2)
    return (
        select(
            Comparison.id,
            Comparison.campaign_id,
            Comparison.kind,
            Comparison.redundancy,
            Comparison.prompt_id,
            Comparison.picked,
            Prompt.split,
            Prompt.messages,
        )
        .join(Prompt, Comparison.prompt_id == Prompt.id)
        .where(and_(Comparison.campaign_id.in_(campaign_ids), judged.add_columns(Judgment.id).exists()))
        .order_by(side, Comparison.prompt_id, Comparison.id)
    )


def _comparison(
    row: Row[Any],
    completions: Sequence[Row[Any]],
    campaign: Campaign,
    names: dict[int, str],
    on_policy: dict[int, int],
) -> JudgedComparison:
    current = on_policy.get(campaign.line_id) if campaign.line_id is not None else None
    generated = any(each.source is CompletionSource.MODEL for each in completions)
    return JudgedComparison(
        id=row.id,
        campaign_id=row.campaign_id,
        kind=row.kind,
        redundancy=row.redundancy,
        prompt_id=row.prompt_id,
        split=row.split.value if row.split is not None else None,
        prompt=as_generated(row.messages, campaign.system_prompt if generated else ""),
        completions=[
            JudgedCompletion(
                id=each.id,
                text=each.text,
                model=names[each.model_version_id] if each.model_version_id is not None else each.model_label,
                on_policy=current is not None and each.model_version_id == current,
            )
            for each in completions
        ],
        picked=row.picked,
    )


def as_generated(messages: Sequence[dict[str, Any]], system_prompt: str) -> list[dict[str, str]]:
    """The prompt as the model saw it: behind the campaign's system prompt, if there is one."""
    turns = [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in messages]
    if system_prompt.strip() and turns[0]["role"] != "system":
        return [{"role": "system", "content": system_prompt}, *turns]
    return turns


def _verdicts(
    session: Session,
    comparison_ids: Sequence[int],
    *,
    as_of: datetime,
    with_surplus: bool,
    pseudonyms: Pseudonyms,
) -> dict[int, list[Verdict]]:
    found = judgments_of(session, comparison_ids, as_of=as_of, with_surplus=with_surplus, with_rejected=True)
    return {
        comparison_id: [_verdict(row, annotator_of(row, pseudonyms)) for row in rows]
        for comparison_id, rows in found.items()
    }


def _verdict(row: Row[Any], annotator: str) -> Verdict:
    return Verdict(
        id=row.id,
        annotator=annotator,
        user_id=row.annotator_id,
        campaign_revision=row.revision_number,
        shown_order=row.shown_order,
        ranking=row.ranking,
        all_bad=row.all_bad,
        strengths=row.strengths,
        criteria=row.criteria,
        ratings=row.ratings,
        flags=row.flags,
        spans=row.spans,
        rationale=row.rationale,
        confidence=row.confidence,
        active_ms=row.active_ms,
        surplus=row.surplus,
        rejected=row.rejected,
        ui_version=row.ui_version,
        judged_at=row.judged_at,
        source="palate" if row.import_id is None else "import",
    )
