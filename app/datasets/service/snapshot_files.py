"""What a snapshot's files hold: the judgments of an instant that its policy lets in, the rankings that they make, and
what people wrote. Everything is read once, written as it comes, and counted on the way.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row as Found
from sqlalchemy import Select, and_, or_
from sqlalchemy.orm import Session, aliased

from app.campaigns.models import Campaign
from app.comparisons.models import Demonstration, Judgment
from app.datasets.models import Snapshot
from app.datasets.rows import CORRECTION, TRAINED_ON, Row, judgment_row, preferred_pairs, ranking_rows
from app.datasets.scope import Scope, campaigns_in
from app.datasets.service.judged import (
    Judged,
    as_generated,
    demonstrations_in_force,
    judged_comparisons,
    judgment_holds,
    was_rejected,
)
from app.generation.models import Completion, CompletionSource, Prompt, Split
from app.pseudonyms import Pseudonyms
from trainer.contract.snapshot import (
    DEMONSTRATIONS_FILE,
    JUDGMENTS_FILE,
    RANKINGS_EVAL_FILE,
    RANKINGS_TRAIN_FILE,
    SnapshotPolicy,
    demonstrations_schema,
    judgments_schema,
    rankings_schema,
    rows_digest,
)

if TYPE_CHECKING:
    from app.datasets.folder import RowsFile

Progress = Callable[[int], None]
"""Called with the number of judgments written so far."""


@dataclass
class Tally:
    """What went into a snapshot, counted on the way."""

    counts: Counter[str] = field(default_factory=Counter)
    prompts: set[int] = field(default_factory=set)
    annotators: set[str] = field(default_factory=set)
    user_ids: set[int] = field(default_factory=set)
    completions: int = 0
    on_policy: int = 0
    files: dict[str, Any] = field(default_factory=dict)


def write_rows(
    session: Session, snapshot: Snapshot, part: Path, pseudonyms: Pseudonyms, progress: Progress | None
) -> tuple[Tally, str]:
    """Write all Parquet files; what they hold, and the hash of the ranking rows."""
    from app.datasets.folder import RowsFile

    schemas = {
        JUDGMENTS_FILE: judgments_schema(),
        RANKINGS_TRAIN_FILE: rankings_schema(),
        RANKINGS_EVAL_FILE: rankings_schema(),
        DEMONSTRATIONS_FILE: demonstrations_schema(),
    }
    files = {name: RowsFile(part / name, schema) for name, schema in schemas.items()}
    policy = SnapshotPolicy.model_validate(snapshot.policy)
    tally = Tally()
    campaign_ids = [campaign.id for campaign in campaigns_in(session, Scope.of(snapshot))]
    try:
        batches = judged_comparisons(
            session, campaign_ids=campaign_ids, as_of=snapshot.as_of, with_surplus=True, pseudonyms=pseudonyms
        )
        digest = rows_digest(_written_rankings(batches, files, policy=policy, tally=tally, progress=progress))
        _write_demonstrations(session, campaign_ids, files, snapshot=snapshot, pseudonyms=pseudonyms, tally=tally)
        for file in files.values():
            file.close()
    except BaseException:
        for file in files.values():
            with suppress(Exception):
                file.abandon()
        raise
    tally.files = {name: file.entry() for name, file in files.items()}
    return tally, digest


def _written_rankings(
    batches: Iterator[list[Judged]],
    files: "dict[str, RowsFile]",
    *,
    policy: SnapshotPolicy,
    tally: Tally,
    progress: Progress | None,
) -> Iterator[Row]:
    """Write judgments and rankings as they come, and pass the rankings on in the order of the files."""
    rankings = {Split.TRAIN.value: files[RANKINGS_TRAIN_FILE], Split.EVAL.value: files[RANKINGS_EVAL_FILE]}
    for batch in batches:
        for comparison, every_verdict in batch:
            verdicts = _taken(every_verdict, redundancy=comparison.redundancy, policy=policy)
            tally.counts["rejected"] += sum(verdict.rejected for verdict in every_verdict)
            tally.counts["surplus"] += sum(verdict.surplus and not verdict.rejected for verdict in every_verdict)
            if not verdicts:
                continue
            for verdict in verdicts:
                files[JUDGMENTS_FILE].append(
                    judgment_row(comparison, verdict, with_rationale=policy.include_rationales)
                )
            _count(tally, (comparison, verdicts))
            if comparison.kind not in TRAINED_ON:
                tally.counts["checks"] += len(verdicts)
            elif comparison.split is None:
                tally.counts["neither_split"] += len(verdicts)
            else:
                for row in ranking_rows(comparison, verdicts, corrections_as_chosen=policy.corrections_as_chosen):
                    rankings[comparison.split].append(row)
                    _count_ranking(tally, row, split=comparison.split)
                    yield row
        if progress is not None:
            progress(tally.counts["judgments"])


def _taken(verdicts: list[Any], *, redundancy: int, policy: SnapshotPolicy) -> list[Any]:
    """The judgments of a comparison that the policy lets in. One that was set aside makes no comparison complete."""
    counted = sum(not (verdict.surplus or verdict.rejected) for verdict in verdicts)
    if not policy.incomplete_comparisons and counted < redundancy:
        return []
    return [
        verdict
        for verdict in verdicts
        if (policy.include_rejected or not verdict.rejected) and (policy.include_surplus or not verdict.surplus)
    ]


def _count(tally: Tally, judged: Judged) -> None:
    comparison, verdicts = judged
    tally.counts["comparisons"] += 1
    tally.counts["judgments"] += len(verdicts)
    tally.prompts.add(comparison.prompt_id)
    tally.annotators.update(verdict.annotator for verdict in verdicts)
    tally.user_ids.update(verdict.user_id for verdict in verdicts if verdict.user_id is not None)
    tally.completions += len(comparison.completions)
    tally.on_policy += sum(completion.on_policy for completion in comparison.completions)


def _count_ranking(tally: Tally, row: Row, *, split: str) -> None:
    tally.counts[f"rankings_{split}"] += 1
    if row["criterion"] is not None:
        return
    pairs = len(preferred_pairs(row["ranks"]))
    tally.counts["corrections"] += row["source"] == CORRECTION
    tally.counts[f"pairs_{split}"] += pairs
    if not pairs:
        tally.counts["all_bad_only" if row["all_bad"] else "ties"] += 1


def _write_demonstrations(
    session: Session,
    campaign_ids: list[int],
    files: "dict[str, RowsFile]",
    *,
    snapshot: Snapshot,
    pseudonyms: Pseudonyms,
    tally: Tally,
) -> None:
    """What people wrote, as long as the judgment that it goes with is in force and let in by the policy."""
    policy = SnapshotPolicy.model_validate(snapshot.policy)
    query = _demonstrations(campaign_ids, as_of=snapshot.as_of, policy=policy)
    for row in session.execute(query.execution_options(yield_per=1000)):
        generated = row.corrected_source is CompletionSource.MODEL
        files[DEMONSTRATIONS_FILE].append(
            {
                "prompt_id": str(row.prompt_id),
                "split": None if row.split is None else row.split.value,
                "prompt": as_generated(row.messages, row.system_prompt if generated else ""),
                "completion_id": str(row.completion_id),
                "completion": [{"role": "assistant", "content": row.text}],
                "corrects_id": None if row.corrects_id is None else str(row.corrects_id),
                "corrects": None if row.corrects_id is None else [{"role": "assistant", "content": row.corrected}],
                "judgment_id": None if row.judgment_id is None else str(row.judgment_id),
                "author": _author(row, pseudonyms),
                "source": "written" if row.corrects_id is None else "corrected",
                "written_at": row.created_at,
            }
        )
        tally.counts["demonstrations"] += 1
        if row.author_id is not None:
            tally.user_ids.add(row.author_id)


def _author(row: Found[Any], pseudonyms: Pseudonyms) -> str | None:
    """The pseudonym of who wrote it: somebody here, or whom an import names for the judgment."""
    if row.author_id is not None:
        return pseudonyms.of_user(row.author_id)
    if row.external_annotator is None:
        return None
    return pseudonyms.of_external(row.import_id, row.external_annotator)


def _demonstrations(campaign_ids: list[int], *, as_of: datetime, policy: SnapshotPolicy) -> Select[Any]:
    """Demonstrations in force at an instant, oldest first, with their prompts and what they correct."""
    corrected = aliased(Completion)
    holds = judgment_holds(as_of=as_of)
    if not policy.include_surplus:
        holds = and_(holds, Judgment.surplus.is_(False))
    if not policy.include_rejected:
        holds = and_(holds, ~was_rejected(as_of=as_of))
    return (
        demonstrations_in_force(as_of=as_of)
        .add_columns(Demonstration.author_id, Demonstration.corrects_id, Demonstration.judgment_id)
        .add_columns(Demonstration.created_at, Prompt.id.label("prompt_id"), Prompt.split, Prompt.messages)
        .add_columns(Completion.id.label("completion_id"), Completion.text, Campaign.system_prompt)
        .add_columns(corrected.text.label("corrected"), corrected.source.label("corrected_source"))
        .add_columns(Judgment.import_id, Judgment.external_annotator)
        .join_from(Demonstration, Prompt, Demonstration.prompt_id == Prompt.id)
        .join(Judgment, Demonstration.judgment_id == Judgment.id, isouter=True)
        .join(Campaign, Demonstration.campaign_id == Campaign.id)
        .join(Completion, Demonstration.completion_id == Completion.id)
        .join(corrected, Demonstration.corrects_id == corrected.id, isouter=True)
        .where(Demonstration.campaign_id.in_(campaign_ids))
        .where(or_(Demonstration.judgment_id.is_(None), holds))
        .order_by(Demonstration.id)
    )
